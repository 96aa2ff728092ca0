// Compiled kernels in files, so that the next process need not compile them. Whatever is wrong with
// a file, or with the folder, costs no more than a compilation.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace tandem::cuda {

/// $TANDEM_KERNEL_CACHE (a folder, or "off"), else $XDG_CACHE_HOME/tandem, else ~/.cache/tandem;
/// empty: no files are kept.
std::filesystem::path kernel_cache_folder();

/// Where `key` is kept in a folder.
std::filesystem::path kernel_cache_file(const std::filesystem::path& folder, std::string_view key);
/// What was stored under exactly that key; nothing if there is no file or it is damaged.
std::optional<std::string> load_kernel(const std::filesystem::path& folder, std::string_view key);
/// Takes effect whole or not at all, also beside other processes. Failures are passed over.
void store_kernel(const std::filesystem::path& folder, std::string_view key, std::string_view code);

}  // namespace tandem::cuda
