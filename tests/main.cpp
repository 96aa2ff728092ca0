// Every test program's: runs the tests with `--device NAME` as the device that tensors are made on
// when none is named. Ends with 77, which ctest takes for "skipped", where there is no such device.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>

#include "core/backend.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const char* device = nullptr;
  if (argc == 3 && std::strcmp(argv[1], "--device") == 0) {
    device = argv[2];
  } else if (argc > 1) {
    std::fprintf(stderr, "usage: %s [--device NAME] [--gtest_…]\n", argv[0]);
    return 2;
  }
  if (device) {
    try {
      const tandem::Device d = tandem::Device::parse(device);
      tandem::backend(d).stream(d.index);  // throws if there is none
      tandem::set_default_device(d);
    } catch (const tandem::Error& e) {
      std::fprintf(stderr, "%s\n", e.what());
      return 77;
    }
  }
  return RUN_ALL_TESTS();
}
