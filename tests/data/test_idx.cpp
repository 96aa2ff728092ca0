#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "core/error.h"
#include "data/idx.h"
#include "tests/data/files.h"
#include "tests/message_of.h"

namespace tandem {
namespace {

using data::IdxArray;
using data::read_idx;
using test::Bytes;
using testing::HasSubstr;

class Idx : public testing::Test {
 protected:
  std::string error(const Bytes& content, const data::IdxLimits& limits = {}) {
    const auto path = dir_.write("file", content);
    const std::string m = test::message_of<DataError>([&] { read_idx(path, limits); });
    EXPECT_THAT(m, HasSubstr("[read_idx] " + path.string() + ": "));
    return m;
  }
  test::TempDir dir_;
};

TEST_F(Idx, RoundTripOfBytesPlainAndGzipped) {
  const Bytes data = test::counting(3 * 4 * 5);
  const Bytes file = test::idx(0x08, {3, 4, 5}, data);
  for (const Bytes& content : {file, test::gzip(file)}) {
    const IdxArray a = read_idx(dir_.write("file", content));
    EXPECT_EQ(a.dtype, DType::u8);
    EXPECT_EQ(a.shape, (Shape{3, 4, 5}));
    ASSERT_EQ(a.bytes.size(), data.size());
    EXPECT_EQ(std::memcmp(a.bytes.data(), data.data(), data.size()), 0);
  }
}

TEST_F(Idx, ElementsOfSeveralBytesAreBigEndian) {
  const IdxArray i =
      read_idx(dir_.write("i", test::idx(0x0C, {2}, {0, 0, 1, 2, 255, 255, 255, 254})));
  EXPECT_EQ(i.dtype, DType::i32);
  std::int32_t v[2];
  std::memcpy(v, i.bytes.data(), sizeof v);
  EXPECT_EQ(v[0], 258);
  EXPECT_EQ(v[1], -2);
  const IdxArray f = read_idx(dir_.write("f", test::idx(0x0D, {1}, {0x3f, 0xc0, 0, 0})));
  float x;
  std::memcpy(&x, f.bytes.data(), sizeof x);
  EXPECT_EQ(x, 1.5f);
  const IdxArray d = read_idx(dir_.write("d", test::idx(0x0E, {1}, {0xc0, 0, 0, 0, 0, 0, 0, 0})));
  double y;
  std::memcpy(&y, d.bytes.data(), sizeof y);
  EXPECT_EQ(y, -2.0);
}

TEST_F(Idx, LargerThanTheReadersBuffer) {
  const Bytes data = test::counting(300000);
  const Bytes file = test::idx(0x08, {300000}, data);
  for (const Bytes& content : {file, test::gzip(file)}) {
    const IdxArray a = read_idx(dir_.write("file", content));
    ASSERT_EQ(a.bytes.size(), data.size());
    EXPECT_EQ(std::memcmp(a.bytes.data(), data.data(), data.size()), 0);
  }
}

TEST_F(Idx, HighlyCompressibleFileIsNotTakenForTooShort) {
  const Bytes file = test::idx(0x08, {1 << 20}, Bytes(1 << 20));
  EXPECT_EQ(read_idx(dir_.write("file", test::gzip(file))).bytes.size(), 1u << 20);
}

TEST_F(Idx, EmptyArray) {
  EXPECT_EQ(read_idx(dir_.write("file", test::idx(0x08, {0, 28}, {}))).bytes.size(), 0u);
}

TEST_F(Idx, ConcatenatedGzipMembersAreOneFile) {
  const Bytes file = test::idx(0x08, {10}, test::counting(10));
  Bytes two = test::gzip(Bytes(file.begin(), file.begin() + 9));
  const Bytes rest = test::gzip(Bytes(file.begin() + 9, file.end()));
  two.insert(two.end(), rest.begin(), rest.end());
  EXPECT_EQ(read_idx(dir_.write("file", two)).bytes.size(), 10u);
}

TEST_F(Idx, TruncatedAnywhereIsRefused) {
  const Bytes file = test::idx(0x08, {2, 3, 4}, test::counting(24));
  for (const Bytes& whole : {file, test::gzip(file)}) {
    for (std::size_t n = 0; n < whole.size(); ++n) {
      SCOPED_TRACE(n);
      error(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n)));
    }
  }
}

TEST_F(Idx, EveryCorruptByteOfAGzipFileIsSeen) {
  const Bytes file = test::idx(0x08, {2, 3, 4}, test::counting(24));
  const Bytes whole = test::gzip(file);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    // Modification time, extra flags and operating system of the gzip header mean nothing.
    if (i >= 4 && i < 10) continue;
    SCOPED_TRACE(i);
    Bytes bad = whole;
    bad[i] ^= 0x55;
    error(bad);
  }
}

TEST_F(Idx, TrailingBytesAreRefused) {
  Bytes file = test::idx(0x08, {4}, test::counting(4));
  Bytes zipped = test::gzip(file);
  file.push_back(0);
  EXPECT_THAT(error(file), HasSubstr("after the end of its content; got 1 bytes more"));
  EXPECT_THAT(error(test::gzip(file)), HasSubstr("after the end of its content"));
  zipped.push_back(0);
  EXPECT_THAT(error(zipped), HasSubstr("after the end of its gzip stream"));
}

TEST_F(Idx, WrongMagic) {
  Bytes file = test::idx(0x08, {1}, {1});
  file[1] = 1;
  EXPECT_THAT(error(file), HasSubstr("must begin with two zero bytes; got 00 01; expected 00 00"));
  EXPECT_THAT(error(test::idx(0x07, {1}, {1})), HasSubstr("no IDX element type; got 0x07"));
  EXPECT_THAT(error(test::idx(0x0B, {1}, {1, 1})), HasSubstr("not supported; got 0x0b"));
  EXPECT_THAT(error(test::idx(0x08, {}, {1})), HasSubstr("rank is out of range; got 0"));
  EXPECT_THAT(error(test::idx(0x08, std::vector<std::uint32_t>(200, 1), {1})),
              HasSubstr("rank is out of range; got 200"));
}

TEST_F(Idx, HugeSizesAreRefusedBeforeAllocating) {
  EXPECT_THAT(error(test::idx(0x08, {0xffffffff, 0xffffffff, 0xffffffff}, {})),
              HasSubstr("declares more data than is allowed"));
  EXPECT_THAT(error(test::idx(0x0E, {0x20000000, 0x20000000}, {})),
              HasSubstr("declares more data than is allowed"));
  // Allowed, but not there: the message says how little is.
  EXPECT_THAT(error(test::idx(0x08, {1000000000}, {1, 2, 3})),
              HasSubstr("shorter than its header declares; got 3 bytes at most"));
  EXPECT_THAT(error(test::gzip(test::idx(0x08, {1000000000}, {1, 2, 3}))),
              HasSubstr("shorter than its header declares"));
  EXPECT_THAT(error(test::idx(0x08, {100}, test::counting(100)), {.max_bytes = 99}),
              HasSubstr("at most 99 bytes"));
}

TEST_F(Idx, MissingFileAndFolder) {
  EXPECT_THAT(test::message_of<DataError>([&] { read_idx(dir_.path() / "nothing"); }),
              HasSubstr("nothing: no such file"));
  EXPECT_THAT(test::message_of<DataError>([&] { read_idx(dir_.path()); }),
              HasSubstr("not a regular file"));
}

}  // namespace
}  // namespace tandem
