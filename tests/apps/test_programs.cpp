// The programs as users run them: exit codes, messages, JSON, and E1 on MNIST.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

struct Outcome {
  int status = -1;
  std::string text;  // both streams
};

Outcome run(const std::string& command) {
  Outcome o;
  std::FILE* p = popen((std::string(TANDEM_APPS "/") + command + " 2>&1").c_str(), "r");
  if (!p) return o;
  char part[4096];
  while (const std::size_t n = std::fread(part, 1, sizeof part, p)) o.text.append(part, n);
  const int status = pclose(p);
  if (WIFEXITED(status)) o.status = WEXITSTATUS(status);
  return o;
}

class Programs : public ::testing::Test {
 protected:
  Programs() {
    std::string name = (fs::temp_directory_path() / "tandem-apps-XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  ~Programs() override { fs::remove_all(folder_); }

  Json run_for_json(const std::string& command) {
    const fs::path file = folder_ / "out.json";
    const Outcome o = run(command + " --json " + file.string());
    EXPECT_EQ(o.status, 0) << o.text;
    std::ifstream in(file);
    return Json::parse(in);
  }

  fs::path folder_;
};

TEST_F(Programs, RefuseNonsenseInALine) {
  for (const char* arguments :
       {"--model nothing", "--epochs 0", "--epochs many", "--no-such-flag", "--device tpu",
        "--device cuda:99", "--data /no/such/folder --data-set mnist", "--dtype i32",
        "--autocast f32", "--autocast bf16 --dtype bf16", "--search 256", "--batch-size -1",
        "--json /no/such/folder/x.json --limit-batches 1 --epochs 1"}) {
    const Outcome o = run(std::string("tandem-train --quick ") + arguments);
    EXPECT_NE(o.status, 0) << arguments << "\n" << o.text;
    EXPECT_GT(o.text.size(), 10u) << arguments;
    EXPECT_EQ(o.text.find("terminate called"), std::string::npos) << arguments << "\n" << o.text;
  }
  for (const char* arguments : {"--model nothing", "--seconds 0", "--steps x", "--device tpu"}) {
    const Outcome o = run(std::string("tandem-tradeoff --quick ") + arguments);
    EXPECT_NE(o.status, 0) << arguments << "\n" << o.text;
  }
}

TEST_F(Programs, RefuseNumbersThatAreNone) {
  const auto refused = [](const std::string& command, const std::string& message) {
    const Outcome o = run(command);
    EXPECT_EQ(o.status, 2) << command << "\n" << o.text;
    EXPECT_EQ(o.text, "error: " + message + " (--help says what there is)\n") << command;
  };
  const auto each = [&](const std::string& program, const std::string& option, const char* range,
                        std::initializer_list<const char*> all) {
    for (const char* bad : all) {
      refused(fmt::format("{} {}={}", program, option, bad),
              fmt::format("{}: {} is not a number from {}", option, bad, range));
    }
  };
  each("tandem-train", "--lr", "1e-12 to 1000000",
       {"nan", "-nan", "inf", "-inf", "-1", "1e999", "x", "1x", "0x10"});
  each("tandem-train", "--momentum", "0 to 1", {"nan", "-1"});
  each("tandem-train", "--weight-decay", "0 to 1000000", {"nan", "inf"});
  each("tandem-train", "--epochs", "1 to 100000", {"-1", "1.5"});
  each("tandem-train", "--limit-batches", "1 to 1073741824", {"-1"});
  each("tandem-train", "--seed", "0 to 18446744073709551615", {"-1", "nan", "x"});
  each("tandem-train", "--batch-size", "1 to 1048576", {"-1", "nan"});
  each("tandem-train", "--threads", "1 to 1024", {"-1"});
  each("tandem-tradeoff", "--seconds", "0.1 to 86400", {"nan", "inf", "-1"});
  each("tandem-tradeoff", "--steps", "1 to 1048576", {"-1", "nan"});
  refused("tandem-train --lr 0", "--lr: 0 is not a number from 1e-12 to 1000000");
  refused("tandem-train --seed 18446744073709551616",
          "--seed: 18446744073709551616 is not a number from 0 to 18446744073709551615");
}

// A leading zero does not make a number octal.
TEST_F(Programs, ReadNumbersAsDecimal) {
  const Json j = run_for_json(
      "tandem-train --mode eager --epochs 01 --limit-batches 010 --batch-size 2 --seed 017");
  EXPECT_EQ(j.at("losses").at("eager").size(), 10u);
  EXPECT_EQ(j.at("seed"), 17);
}

TEST_F(Programs, SayWhatTheyCan) {
  for (const char* program : {"tandem-train", "tandem-tradeoff"}) {
    const Outcome help = run(std::string(program) + " --help");
    EXPECT_EQ(help.status, 0);
    EXPECT_NE(help.text.find("--device"), std::string::npos) << help.text;
    const Outcome version = run(std::string(program) + " --version");
    EXPECT_EQ(version.status, 0);
    EXPECT_NE(version.text.find("0."), std::string::npos) << version.text;
  }
}

TEST_F(Programs, TrainBothWays) {
  const Json j = run_for_json(
      "tandem-train --data-set synthetic-digits --epochs 1 --limit-batches 5 --mode both");
  EXPECT_TRUE(j.at("synthetic").get<bool>());
  EXPECT_TRUE(j.at("losses_equal").get<bool>());
  EXPECT_TRUE(j.at("states_equal").get<bool>());
  EXPECT_EQ(j.at("losses").at("eager").size(), 5u);
  EXPECT_EQ(j.at("losses").at("eager"), j.at("losses").at("compiled"));
}

TEST_F(Programs, TrainInMixedPrecision) {
  const auto train = [&](const std::string& more) {
    return run_for_json(
        "tandem-train --data-set synthetic-digits --epochs 1 --limit-batches 1 --batch-size 4 " +
        more);
  };
  const auto loss = [](const Json& j) { return j.at("losses").at("eager")[0].get<double>(); };
  const Json exact = train("--tf32 --search 2"), bf16 = train("--autocast bf16"),
             f16 = train("--autocast f16 --mode eager");  // slow on a CPU
  for (const Json* both : {&exact, &bf16}) {
    EXPECT_TRUE(both->at("losses_equal").get<bool>());
    EXPECT_TRUE(both->at("states_equal").get<bool>());
  }
  for (const Json* low : {&bf16, &f16}) {
    EXPECT_NE(loss(*low), loss(exact));
    EXPECT_NEAR(loss(*low), loss(exact), 0.02);
  }
  const Outcome o =
      run("tandem-tradeoff --quick --seconds 0.2 --batch-size 4 --autocast bf16 --no-leave-outs");
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_NE(o.text.find("f32, autocast bf16"), std::string::npos) << o.text;
}

TEST_F(Programs, TradeoffWritesWhatItSays) {
  const Json j = run_for_json("tandem-tradeoff --quick --seconds 1 --batch-size 4 --no-leave-outs");
  std::vector<std::string> names;
  for (const Json& a : j.at("arms")) names.push_back(a.at("name"));
  ASSERT_GE(names.size(), 5u);
  EXPECT_EQ(names[0], "eager");
  EXPECT_NE(std::find(names.begin(), names.end(), "capture & replay"), names.end());
  for (const Json& a : j.at("arms")) EXPECT_GT(a.at("step_ms").at("median").get<double>(), 0);
  const auto of = [](const Json& arm, const char* key) { return arm.at(key).get<double>(); };
  const Json &eager = j.at("arms").front(), &all = j.at("arms").back();
  for (const Json* arm : {&eager, &all}) {
    for (const char* key : {"host_ms", "kernel_ms", "launches", "allocations", "peak_bytes"}) {
      EXPECT_GT(of(*arm, key), 0) << key;
    }
  }
  EXPECT_LT(of(all, "launches"), of(eager, "launches"));
  EXPECT_LT(of(all, "allocations"), of(eager, "allocations") / 2);
  EXPECT_LT(of(all, "peak_bytes"), of(eager, "peak_bytes"));
  EXPECT_GT(of(all, "capture_ms"), 0);
  EXPECT_GT(of(all, "compile_ms"), 0);
  EXPECT_TRUE(all.at("break_even").contains("steps"));
}

// A file is replaced as a whole, where a link leads to; what is no file is written.
TEST_F(Programs, JsonGoesWhereALinkLeads) {
  const fs::path file = folder_ / "real.json", link = folder_ / "link.json",
                 null = folder_ / "null";
  fs::create_symlink(file, link);
  fs::create_symlink("/dev/null", null);
  for (const fs::path& path : {link, null}) {
    const Outcome o =
        run("tandem-train --quick --limit-batches 1 --batch-size 4 --mode eager --json " +
            path.string());
    EXPECT_EQ(o.status, 0) << o.text;
    EXPECT_TRUE(fs::is_symlink(path));
  }
  std::ifstream in(file);
  EXPECT_TRUE(Json::parse(in).contains("epochs"));
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
  for (const auto& entry : fs::directory_iterator(folder_)) {
    EXPECT_EQ(entry.path().string().find(".part"), std::string::npos) << entry.path();
  }
}

// --quick changes defaults only: what is named is done.
TEST_F(Programs, QuickDoesNotOverrideWhatIsNamed) {
  const Json three =
      run_for_json("tandem-train --quick --epochs 3 --limit-batches 2 --batch-size 4 --mode eager");
  EXPECT_EQ(three.at("epochs").size(), 3u);
  EXPECT_EQ(three.at("losses").at("eager").size(), 6u);
  const Json one = run_for_json("tandem-train --quick --limit-batches 2 --batch-size 4");
  EXPECT_EQ(one.at("epochs").size(), 1u);
  const std::string ladder = "tandem-tradeoff --no-leave-outs --batch-size 4 --steps 2 ";
  EXPECT_EQ(run_for_json(ladder + "--quick --seconds 9").at("seconds"), 9);
  EXPECT_EQ(run_for_json(ladder + "--quick").at("seconds"), 4);
}

// One registry: what trains is what nn::make_model makes, by the same name.
TEST_F(Programs, TakeTheModelsNames) {
  for (const char* program : {"tandem-train", "tandem-tradeoff"}) {
    const Outcome o = run(std::string(program) + " --help");
    for (const char* name : {"lenet", "vgg-cifar", "resnet18-cifar", "resnet50"}) {
      EXPECT_NE(o.text.find(name), std::string::npos) << program << "\n" << o.text;
    }
    EXPECT_NE(run(std::string(program) + " --model vgg").status, 0);
  }
}

// E1 on MNIST: 99.0 % of the test images within 5 epochs, the same losses step by step.
TEST_F(Programs, LenetLearnsMnistInBothModes) {
  const char* data = std::getenv("TANDEM_DATA");
  if (!data) GTEST_SKIP() << "TANDEM_DATA names no folder with MNIST";
  const Json j =
      run_for_json(std::string("tandem-train --data-set mnist --epochs 2 --data ") + data);
  EXPECT_FALSE(j.at("synthetic").get<bool>());
  EXPECT_TRUE(j.at("losses_equal").get<bool>());
  EXPECT_TRUE(j.at("states_equal").get<bool>());
  for (const char* mode : {"eager", "compiled"}) {
    EXPECT_EQ(j.at("losses").at(mode).size(), 2u * 938);
    double best = 0;
    for (const Json& e : j.at("epochs")) {
      best = std::max(best, e.at("test_accuracy").at(mode).get<double>());
    }
    EXPECT_GE(best, 0.99) << mode;
  }
}

}  // namespace
