#include "cuda/kernel_cache.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <fstream>

namespace tandem::cuda {

namespace fs = std::filesystem;

namespace {

// FNV-1a.
std::uint64_t hash(std::string_view s, std::uint64_t h = 0xcbf29ce484222325ull) {
  for (const unsigned char c : s) h = (h ^ c) * 0x100000001b3ull;
  return h;
}

// A file is this, the key and the code.
struct Head {
  char magic[16] = "tandem kernel 1";
  std::uint64_t key_bytes, code_bytes, checksum;  // of key and code

  static Head of(std::string_view key, std::string_view code) {
    Head h;
    h.key_bytes = key.size();
    h.code_bytes = code.size();
    h.checksum = hash(code, hash(key));
    return h;
  }
};

}  // namespace

fs::path kernel_cache_folder() {
  const auto variable = [](const char* name) -> std::string {
    const char* v = std::getenv(name);
    return v ? v : "";
  };
  if (const std::string v = variable("TANDEM_KERNEL_CACHE"); !v.empty()) {
    return v == "off" ? fs::path() : fs::path(v);
  }
  if (const std::string v = variable("XDG_CACHE_HOME"); !v.empty()) return fs::path(v) / "tandem";
  if (const std::string v = variable("HOME"); !v.empty()) return fs::path(v) / ".cache" / "tandem";
  return {};
}

fs::path kernel_cache_file(const fs::path& folder, std::string_view key) {
  return folder / fmt::format("{:016x}{:016x}.kernel", hash(key), hash(key, key.size()));
}

std::optional<std::string> load_kernel(const fs::path& folder, std::string_view key) {
  if (folder.empty()) return {};
  std::ifstream in(kernel_cache_file(folder, key), std::ios::binary);
  const std::string all{std::istreambuf_iterator<char>(in), {}};
  if (all.size() < sizeof(Head) + key.size()) return {};
  const std::string_view code = std::string_view(all).substr(sizeof(Head) + key.size());
  const Head want = Head::of(key, code);
  if (std::memcmp(all.data(), &want, sizeof want) != 0) return {};
  if (all.compare(sizeof(Head), key.size(), key) != 0) return {};
  return std::string(code);
}

void store_kernel(const fs::path& folder, std::string_view key, std::string_view code) {
  if (folder.empty()) return;
  static std::atomic<unsigned> number{0};
  std::error_code error;
  fs::create_directories(folder, error);
  const fs::path file = kernel_cache_file(folder, key);
  fs::path draft = file;
  draft += fmt::format(".{}.{}", getpid(), number++);
  {
    std::ofstream out(draft, std::ios::binary);
    const Head head = Head::of(key, code);
    out.write(reinterpret_cast<const char*>(&head), sizeof head);
    out.write(key.data(), static_cast<std::streamsize>(key.size()));
    out.write(code.data(), static_cast<std::streamsize>(code.size()));
    out.close();
    if (out) fs::rename(draft, file, error);
    if (out && !error) return;
  }
  fs::remove(draft, error);
}

}  // namespace tandem::cuda
