#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "core/error.h"
#include "data/dataset.h"
#include "data/synthetic.h"
#include "tests/data/files.h"
#include "tests/message_of.h"

namespace tandem {
namespace {

using namespace data;
using test::Bytes;
using testing::HasSubstr;

Bytes images(std::uint32_t n) {
  return test::idx(0x08, {n, 28, 28}, test::counting(n * 784));
}
Bytes labels(std::uint32_t n) {
  Bytes b(n);
  for (std::uint32_t i = 0; i < n; ++i) b[i] = static_cast<std::uint8_t>(i % 10);
  return test::idx(0x08, {n}, b);
}

TEST(Mnist, BothSpellingsPlainAndGzippedAndSubfolders) {
  for (const bool dotted : {false, true}) {
    for (const bool zipped : {false, true}) {
      for (const std::string folder : {"", "mnist/", "MNIST/raw/"}) {
        test::TempDir dir;
        const auto put = [&](const std::string& part, const std::string& kind, const Bytes& b) {
          dir.write(folder + part + (dotted ? "." : "-") + kind + (zipped ? ".gz" : ""),
                    zipped ? test::gzip(b) : b);
        };
        put("train-images", "idx3-ubyte", images(12));
        put("train-labels", "idx1-ubyte", labels(12));
        put("t10k-images", "idx3-ubyte", images(5));
        put("t10k-labels", "idx1-ubyte", labels(5));
        const DatasetPair d = load_dataset("mnist", dir.path());
        ASSERT_EQ(d.train->size(), 12);
        ASSERT_EQ(d.test->size(), 5);
        EXPECT_EQ(d.train->image_shape(), (Shape{1, 28, 28}));
        EXPECT_EQ(d.train->classes(), 10);
        EXPECT_FALSE(d.train->synthetic());
        const std::array<std::int64_t, 2> which = {11, 3};
        std::vector<float> x(2 * 784);
        std::array<std::int64_t, 2> y{};
        d.train->get(which, x.data(), y.data());
        EXPECT_EQ(y[0], 1);
        EXPECT_EQ(y[1], 3);
        const Bytes expected = test::counting(12 * 784);
        for (std::size_t k = 0; k < 784; ++k) {
          EXPECT_EQ(x[k], static_cast<float>(expected[11 * 784 + k]) / 255.0f);
        }
      }
    }
  }
}

TEST(Mnist, FashionLiesBesideItInAFolderOfItsOwn) {
  test::TempDir dir;
  for (const std::string folder : {"", "fashion/"}) {
    const std::uint32_t n = folder.empty() ? 3 : 4;
    for (const std::string part : {"train", "t10k"}) {
      dir.write(folder + part + "-images-idx3-ubyte", images(n));
      dir.write(folder + part + "-labels-idx1-ubyte", labels(n));
    }
  }
  EXPECT_EQ(load_dataset("mnist", dir.path()).train->size(), 3);
  EXPECT_EQ(load_dataset("fashion", dir.path()).train->size(), 4);
}

TEST(Mnist, Errors) {
  test::TempDir dir;
  const auto error = [&] {
    return test::message_of<DataError>([&] { load_dataset("mnist", dir.path()); });
  };
  EXPECT_THAT(error(), testing::AllOf(HasSubstr("[load_mnist] " + dir.path().string()),
                                      HasSubstr("train-images-idx3-ubyte"),
                                      HasSubstr("train-images.idx3-ubyte")));
  dir.write("train-images-idx3-ubyte", images(3));
  dir.write("train-labels-idx1-ubyte", labels(4));
  dir.write("t10k-images-idx3-ubyte", images(2));
  dir.write("t10k-labels-idx1-ubyte", labels(2));
  EXPECT_THAT(error(), HasSubstr("images and labels differ in number"));
  dir.write("train-labels-idx1-ubyte", test::idx(0x08, {3}, {1, 10, 2}));
  EXPECT_THAT(error(), HasSubstr("label 1 is out of range; got 10; expected 0 to 9"));
  dir.write("train-labels-idx1-ubyte", images(3));
  EXPECT_THAT(error(), HasSubstr("wrong element type or rank"));
  dir.write("train-labels-idx1-ubyte", labels(3));
  dir.write("train-images-idx3-ubyte", test::idx(0x08, {3, 28, 27}, Bytes(3 * 28 * 27)));
  EXPECT_THAT(error(), HasSubstr("wrong image size; got [3, 28, 27]"));
  dir.write("train-images-idx3-ubyte", images(0));
  EXPECT_THAT(error(), HasSubstr("no samples"));
}

TEST(Cifar10, RecordsOfSixFiles) {
  test::TempDir dir;
  const auto file = [](std::uint8_t label, int records) {
    Bytes b;
    for (int i = 0; i < records; ++i) {
      b.push_back(label);
      for (int k = 0; k < 3072; ++k) b.push_back(static_cast<std::uint8_t>(k / 1024 * 50 + label));
    }
    return b;
  };
  for (int i = 1; i <= 5; ++i) {
    dir.write("cifar-10-batches-bin/data_batch_" + std::to_string(i) + ".bin",
              file(static_cast<std::uint8_t>(i), 2));
  }
  const auto error = [&] {
    return test::message_of<DataError>([&] { load_dataset("cifar10", dir.path()); });
  };
  EXPECT_THAT(error(), HasSubstr("test_batch.bin"));
  const std::string test_file = "cifar-10-batches-bin/test_batch.bin";
  dir.write(test_file, file(7, 3));
  const DatasetPair d = load_dataset("cifar10", dir.path());
  ASSERT_EQ(d.train->size(), 10);
  ASSERT_EQ(d.test->size(), 3);
  EXPECT_EQ(d.train->image_shape(), (Shape{3, 32, 32}));
  std::vector<float> x(3072);
  std::int64_t y = 0;
  const std::int64_t last = 9;
  d.train->get({&last, 1}, x.data(), &y);
  EXPECT_EQ(y, 5);
  EXPECT_EQ(x[0], 5.0f / 255.0f);
  EXPECT_EQ(x[3071], 105.0f / 255.0f);

  Bytes b = file(7, 2);
  b.pop_back();
  dir.write(test_file, b);
  EXPECT_THAT(error(), HasSubstr("record 1 is cut short; got 3072 bytes; expected 3073 bytes"));
  dir.write(test_file, file(10, 1));
  EXPECT_THAT(error(), HasSubstr("label of record 0 is out of range; got 10"));
  dir.write(test_file, {});
  EXPECT_THAT(error(), HasSubstr("it is empty"));
}

TEST(Datasets, Names) {
  const std::string m = test::message_of<ValueError>([] { load_dataset("imagenet"); });
  EXPECT_THAT(m, HasSubstr("synthetic-digits"));
  EXPECT_EQ(dataset_names().size(), 5u);
}

TEST(Datasets, IndexOutOfRange) {
  const ByteImages d("d", {1, 1, 1}, 2, {0, 255}, {0, 1});
  float x;
  std::int64_t y, i = 2;
  EXPECT_THROW(d.get({&i, 1}, &x, &y), IndexError);
  i = -1;
  EXPECT_THROW(d.get({&i, 1}, &x, &y), IndexError);
}

TEST(Synthetic, SaysSoAndIsReproducible) {
  for (const auto make : {synthetic_digits, synthetic_cifar}) {
    const auto a = std::dynamic_pointer_cast<const ByteImages>(make(300, 5));
    const auto longer = std::dynamic_pointer_cast<const ByteImages>(make(400, 5));
    const auto other = std::dynamic_pointer_cast<const ByteImages>(make(300, 6));
    EXPECT_TRUE(a->synthetic());
    EXPECT_THAT(a->name(), HasSubstr("generated"));
    EXPECT_TRUE(std::equal(a->pixels().begin(), a->pixels().end(), longer->pixels().begin()));
    EXPECT_FALSE(std::equal(a->pixels().begin(), a->pixels().end(), other->pixels().begin()));
    std::array<int, 10> count{};
    for (const auto l : a->labels()) ++count[l];
    for (const int c : count) EXPECT_GT(c, 10);
    EXPECT_THROW(make(0, 1), ValueError);
  }
}

}  // namespace
}  // namespace tandem
