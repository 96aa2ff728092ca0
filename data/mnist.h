// MNIST, and the sets that come in the same files (Fashion-MNIST).
#pragma once
#include <filesystem>
#include <string>

#include "data/dataset.h"

namespace tandem::data {

/// Reads {train,t10k}-{images,labels} in `dir` or one of its usual subfolders, spelled either
/// `train-images-idx3-ubyte` or `train-images.idx3-ubyte`, with or without `.gz`. Throws DataError
/// when a file is missing (saying what was looked for), malformed, not 28x28, when images and
/// labels do not match in number, or when a label is not 0 to 9.
DatasetPair load_mnist(const std::filesystem::path& dir, const std::string& name = "mnist");

}  // namespace tandem::data
