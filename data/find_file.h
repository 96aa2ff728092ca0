// Finds a data file under one of the names and in one of the folders it is commonly kept.
#pragma once
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>
#include <string>
#include <vector>

#include "core/error.h"

namespace tandem::data {

/// The first that exists of dir/folder/name and dir/folder/name.gz. Throws DataError naming
/// `reader`, the folder and the names looked for.
inline std::filesystem::path find_file(const std::filesystem::path& dir,
                                       const std::vector<std::string>& folders,
                                       const std::vector<std::string>& names, const char* reader) {
  for (const std::string& folder : folders) {
    for (const std::string& name : names) {
      for (const char* suffix : {"", ".gz"}) {
        std::filesystem::path p = dir / folder / (name + suffix);
        std::error_code ec;
        if (std::filesystem::exists(p, ec)) return p;
      }
    }
  }
  fail<DataError>(reader, dir.string() + ": a data file is missing", {},
                  fmt::format("one of {} (plain or .gz) there or in one of its folders {}",
                              fmt::join(names, ", "), fmt::join(folders, " ")));
}

}  // namespace tandem::data
