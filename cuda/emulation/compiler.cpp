#include "cuda/emulation/compiler.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "cuda/embedded.h"

namespace tandem::cuda::emulation {

namespace fs = std::filesystem;

namespace {

// No contraction: the same bits as what is compiled beforehand.
constexpr const char* kFlags =
    "-std=c++20 -O1 -shared -fPIC -ffp-contract=off -fno-strict-aliasing";

std::string command() {
  const char* cxx = std::getenv("CXX");
  return cxx && *cxx ? cxx : "c++";
}

std::string read(const fs::path& p) {
  std::ifstream in(p, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
void write(const fs::path& p, std::string_view text) {
  fs::create_directories(p.parent_path());
  std::ofstream(p, std::ios::binary).write(text.data(), static_cast<std::streamsize>(text.size()));
}

struct Folder {
  Folder() {
    std::string name = (fs::temp_directory_path() / "tandem-XXXXXX").string();
    if (!mkdtemp(name.data())) fail<InternalError>("emulated device", "no temporary folder", name);
    path = name;
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  fs::path path;
};

}  // namespace

std::string compiler_version() {
  return fmt::format("{} {} ({})", command(), kFlags, __VERSION__);
}

std::string compile(const std::string& source) {
  const Folder folder;
  const std::string in = folder.path;
  for (const EmbeddedHeader& h : embedded_headers()) write(folder.path / h.name, h.text);
  write(folder.path / "kernel.cpp", source);
  const std::string call = fmt::format(
      "{0} {1} -I{2} {2}/kernel.cpp -o {2}/kernel.so > {2}/log 2>&1", command(), kFlags, in);
  const int status = std::system(call.c_str());
  const std::string code = read(folder.path / "kernel.so");
  if (status != 0 || code.empty()) {
    fail<InternalError>("emulated device", "a generated kernel does not compile",
                        fmt::format("\n{}\n{}\n{}", call, read(folder.path / "log"), source));
  }
  return code;
}

void* load(const std::string& object, const std::string& function) {
  const Folder folder;
  const fs::path file = folder.path / "kernel.so";
  write(file, object);
  void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  void* f = library ? dlsym(library, function.c_str()) : nullptr;
  if (!f) fail<InternalError>("emulated device", "a kernel cannot be loaded", dlerror());
  return f;
}

}  // namespace tandem::cuda::emulation
