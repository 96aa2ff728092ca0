// CIFAR-10 in its binary version (https://www.cs.toronto.edu/~kriz/cifar.html): records of one
// label byte and 3072 bytes of a 3x32x32 image.
#pragma once
#include <filesystem>

#include "data/dataset.h"

namespace tandem::data {

/// Reads data_batch_1.bin … data_batch_5.bin and test_batch.bin in `dir` or in its subfolder
/// `cifar-10-batches-bin`, with or without `.gz`. Throws DataError when a file is missing, is not a
/// whole number of records, is empty or too large, or holds a label that is not 0 to 9.
DatasetPair load_cifar10(const std::filesystem::path& dir);

}  // namespace tandem::data
