// Reads a file as a stream of bytes, through gzip where the file is gzipped.
#pragma once
#include <zlib.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace tandem::data {

/// A plain or gzipped file, read once from front to back. What the bytes are is seen from the gzip
/// magic, not from the file's name. Throws DataError, naming `reader` and the file, when the file
/// is missing or not a regular file, and when its gzip stream is corrupt or cut short.
class FileReader {
 public:
  FileReader(std::filesystem::path path, std::string reader);
  ~FileReader();
  FileReader(const FileReader&) = delete;
  FileReader& operator=(const FileReader&) = delete;

  /// Up to `n` bytes into `out`; fewer only at the end of the content.
  std::size_t read(void* out, std::size_t n);
  /// Like read(), but fewer than `n` bytes are a DataError saying that `what` is cut short.
  void read_exactly(void* out, std::size_t n, const char* what);
  /// DataError unless the content ends here.
  void expect_end();
  /// More content than this cannot follow, whatever a header claims: exact for a plain file; for a
  /// gzipped one, what its remaining bytes could expand to at most. To be asked before allocating.
  std::uint64_t most_left() const;

  /// Throws DataError `[reader] file: rule; got …; expected …`.
  [[noreturn]] void fail(const std::string& rule, const std::string& got = {},
                         const std::string& expected = {}) const;

 private:
  std::size_t read_raw(void* out, std::size_t n);
  std::size_t inflate_some(void* out, std::size_t n);

  struct Close {
    void operator()(std::FILE* f) const { std::fclose(f); }
  };
  std::filesystem::path path_;
  std::string reader_;
  std::unique_ptr<std::FILE, Close> file_;
  std::uint64_t raw_left_ = 0;  // bytes of the file not yet read
  bool gzip_ = false, ended_ = false;
  z_stream z_ = {};
  std::vector<unsigned char> buffer_;  // compressed bytes waiting for inflate
};

}  // namespace tandem::data
