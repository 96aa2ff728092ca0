#include "data/file_reader.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <system_error>

#include "core/error.h"

namespace tandem::data {

namespace {
constexpr std::size_t kBuffer = 64 * 1024;
// Deflate cannot do better than 258 bytes from two one-bit codes; the slack is for codes that zlib
// has taken in but not yet expanded.
constexpr std::uint64_t kDeflateRatio = 1032, kDeflateSlack = 16 * 1024;
// Added to a gzip header this tells zlib to take the gzip wrapper and to check its CRC and length.
constexpr int kGzipWindow = 15 + 16;
}  // namespace

FileReader::FileReader(std::filesystem::path path, std::string reader)
    : path_(std::move(path)), reader_(std::move(reader)) {
  std::error_code ec;
  const auto status = std::filesystem::status(path_, ec);
  if (!std::filesystem::exists(status)) fail("no such file");
  if (!std::filesystem::is_regular_file(status)) fail("not a regular file");
  file_.reset(std::fopen(path_.c_str(), "rb"));
  if (!file_) fail("cannot be opened", std::strerror(errno));
  raw_left_ = std::filesystem::file_size(path_, ec);
  if (ec) fail("its size cannot be read", ec.message());

  unsigned char magic[2] = {};
  const std::size_t n = std::fread(magic, 1, 2, file_.get());
  if (std::fseek(file_.get(), 0, SEEK_SET) != 0) fail("cannot be rewound", std::strerror(errno));
  gzip_ = n == 2 && magic[0] == 0x1f && magic[1] == 0x8b;
  if (gzip_) {
    buffer_.resize(kBuffer);
    if (inflateInit2(&z_, kGzipWindow) != Z_OK) fail("zlib cannot start");
  }
}

FileReader::~FileReader() {
  if (gzip_) inflateEnd(&z_);
}

void FileReader::fail(const std::string& rule, const std::string& got,
                      const std::string& expected) const {
  tandem::fail<DataError>(reader_, path_.string() + ": " + rule, got, expected);
}

std::uint64_t FileReader::most_left() const {
  if (!gzip_) return raw_left_;
  const std::uint64_t compressed = raw_left_ + z_.avail_in;
  return compressed > (UINT64_MAX - kDeflateSlack) / kDeflateRatio
             ? UINT64_MAX
             : compressed * kDeflateRatio + kDeflateSlack;
}

std::size_t FileReader::read_raw(void* out, std::size_t n) {
  const std::size_t want =
      static_cast<std::size_t>(std::min<std::uint64_t>(n, raw_left_));  // never past the end
  if (want == 0) return 0;
  const std::size_t got = std::fread(out, 1, want, file_.get());
  if (got < want && std::ferror(file_.get())) fail("cannot be read", std::strerror(errno));
  raw_left_ -= got;
  if (got < want) raw_left_ = 0;  // it shrank while being read
  return got;
}

std::size_t FileReader::inflate_some(void* out, std::size_t n) {
  z_.next_out = static_cast<Bytef*>(out);
  z_.avail_out = static_cast<uInt>(std::min<std::size_t>(n, UINT_MAX));
  const uInt asked = z_.avail_out;
  while (!ended_ && z_.avail_out > 0) {
    if (z_.avail_in == 0) {
      z_.next_in = buffer_.data();
      z_.avail_in = static_cast<uInt>(read_raw(buffer_.data(), buffer_.size()));
    }
    const int rc = inflate(&z_, Z_NO_FLUSH);
    if (rc == Z_STREAM_END) {
      if (z_.avail_in == 0) {
        z_.next_in = buffer_.data();
        z_.avail_in = static_cast<uInt>(read_raw(buffer_.data(), buffer_.size()));
      }
      if (z_.avail_in == 0) {
        ended_ = true;
      } else if (z_.next_in[0] == 0x1f) {
        inflateReset(&z_);  // gzip files may be concatenated; inflate checks the next header
      } else {
        fail("there are bytes after the end of its gzip stream",
             std::to_string(raw_left_ + z_.avail_in) + " bytes more");
      }
    } else if (rc == Z_BUF_ERROR) {
      if (z_.avail_in == 0 && raw_left_ == 0) fail("its gzip stream is cut short");
    } else if (rc != Z_OK) {
      fail("its gzip stream is corrupt", z_.msg ? z_.msg : "zlib error " + std::to_string(rc));
    }
  }
  return asked - z_.avail_out;
}

std::size_t FileReader::read(void* out, std::size_t n) {
  std::size_t done = 0;
  while (done < n) {
    void* to = static_cast<char*>(out) + done;
    const std::size_t got = gzip_ ? inflate_some(to, n - done) : read_raw(to, n - done);
    if (got == 0) break;
    done += got;
  }
  return done;
}

void FileReader::read_exactly(void* out, std::size_t n, const char* what) {
  const std::size_t got = read(out, n);
  if (got != n) {
    fail(std::string(what) + " is cut short", std::to_string(got) + " bytes",
         std::to_string(n) + " bytes");
  }
}

void FileReader::expect_end() {
  char extra;
  // Asking for one more byte also makes zlib check the CRC at the end of a gzip stream.
  if (read(&extra, 1) != 0) {
    fail("there are bytes after the end of its content",
         gzip_ ? std::string("more bytes") : std::to_string(raw_left_ + 1) + " bytes more",
         "the end of the file");
  }
}

}  // namespace tandem::data
