// docs/tolerances.md says what the table of op cases allows. With TANDEM_WRITE_DOCS=1 it is
// written.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/ops/cases_fixture.h"

namespace tandem::cases {
namespace {

constexpr std::string_view kBegin = "<!-- begin cases -->\n", kEnd = "<!-- end cases -->\n";

std::string table() {
  // What is allowed and why, with the cases it holds for.
  std::vector<std::pair<std::string, std::string>> rows;
  const OpCase usual;
  for (const OpCase& c : all_cases()) {
    if (c.roundings <= usual.roundings && c.ulps <= usual.ulps) continue;
    const std::string allowed =
        fmt::format("{} | {:g} | {} | {}", c.roundings, c.ulps, c.magnitude, c.why);
    auto row = std::find_if(rows.begin(), rows.end(), [&](auto& r) { return r.first == allowed; });
    if (row == rows.end()) row = rows.insert(row, {allowed, ""});
    row->second += (row->second.empty() ? "`" : ", `") + c.name + "`";
  }
  std::string s = "| roundings | units | magnitude | why | cases |\n|---|---|---|---|---|\n";
  for (const auto& [allowed, cases] : rows) s += fmt::format("| {} | {} |\n", allowed, cases);
  return s;
}

TEST(OpCaseTable, TolerancesAreDocumented) {
  const auto path = std::filesystem::path(__FILE__).parent_path().parent_path().parent_path() /
                    "docs/tolerances.md";
  std::ifstream in(path);
  std::stringstream read;
  read << in.rdbuf();
  const std::string page = read.str();
  const auto begin = page.find(kBegin), end = page.find(kEnd);
  ASSERT_TRUE(begin < end && end != std::string::npos) << path << " lacks its markers";
  const auto first = begin + kBegin.size();
  if (std::getenv("TANDEM_WRITE_DOCS")) {
    std::ofstream(path) << page.substr(0, first) + table() + page.substr(end);
    return;
  }
  EXPECT_EQ(page.substr(first, end - first), table())
      << "TANDEM_WRITE_DOCS=1 test_ops --gtest_filter='*TolerancesAreDocumented' writes it";
}

}  // namespace
}  // namespace tandem::cases
