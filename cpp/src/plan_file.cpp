#include "plan_file.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "error.h"

namespace aasist {
namespace {

using Json = nlohmann::json;

constexpr const char* kAgain = "copy the plan and its .json together, or build it again: aasist-deploy export MODEL --to trt";
constexpr int kMaxDepth = 64;

Error refuse(const std::string& beside, const std::string& message) {
  return Error(AASIST_MODEL_FILE, beside + ": " + message, kAgain);
}

std::string line_of(const Json& value, const char* key, const std::string& beside) {
  auto text = value.get<std::string>();
  if (!is_line(text)) {
    throw refuse(beside, std::string("the plan's ") + key + " is " + value.dump(-1, ' ', true) +
                             "; it must be one line of text.");
  }
  return text;
}

Json description(const std::string& beside) {
  const auto text = read_model_bytes(beside);
  bool too_deep = false;
  const auto limit = [&too_deep](int depth, Json::parse_event_t, const Json&) {
    too_deep = too_deep || depth > kMaxDepth;
    return !too_deep;
  };
  Json values = Json::parse(text.begin(), text.end(), limit, /*allow_exceptions=*/false);
  if (too_deep || !values.is_object()) throw refuse(beside, "it is no JSON object.");
  const std::string schema = values.contains("schema") && values["schema"].is_string() ? values["schema"] : Json("");
  if (line_of(schema, "schema", beside) != kPlanSchema) {
    throw Error(AASIST_MODEL_FILE,
                beside + ": the plan's description is '" + schema + "'; this version reads '" + kPlanSchema + "'.",
                "use the version of aasist-deploy that built the plan, or build it again");
  }
  return values;
}

std::string text_of(const Json& values, const char* key, const std::string& beside) {
  if (!values.contains(key) || !values[key].is_string() || values[key].get<std::string>().empty()) {
    throw refuse(beside, std::string("the plan's ") + key + " is no text.");
  }
  return line_of(values[key], key, beside);
}

std::vector<Profile> profiles_of(const Json& values, const std::string& beside) {
  std::vector<Profile> profiles;
  const Json given = values.contains("profiles") ? values["profiles"] : Json();
  for (const auto& one : given.is_array() ? given : Json::array()) {
    const auto whole = [](const Json& size) {
      return size.is_number_integer() && (!size.is_number_unsigned() || size.get<uint64_t>() <= INT32_MAX);
    };
    if (!one.is_array() || one.size() != 3 || !std::all_of(one.begin(), one.end(), whole)) {
      throw refuse(beside, "a profile is " + one.dump() + "; it must be three whole numbers.");
    }
    const Profile profile{one[0].get<int64_t>(), one[1].get<int64_t>(), one[2].get<int64_t>()};
    if (profile[0] < 1 || profile[0] > profile[1] || profile[1] > profile[2]) {
      throw refuse(beside, "a profile is " + one.dump() + "; it must be the smallest, optimal and largest batch, in this order.");
    }
    profiles.push_back(profile);
  }
  if (profiles.empty()) throw refuse(beside, "the plan has no optimization profile.");
  return profiles;
}

std::vector<int64_t> numbers(const std::string& version) {
  std::vector<int64_t> found;
  std::istringstream parts(version);
  for (std::string part; std::getline(parts, part, '.');) {
    if (!part.empty() && part.size() < 10 && part.find_first_not_of("0123456789") == std::string::npos) {
      found.push_back(std::stoll(part));
    }
  }
  return found;
}

bool version_fits(const PlanFile& plan, const std::string& here) {
  if (plan.tensorrt_version == here) return true;
  const auto built = numbers(plan.tensorrt_version);
  const auto running = numbers(here);
  return plan.version_compatible && !built.empty() && !running.empty() && built[0] == running[0] && built <= running;
}

bool gpu_fits(const PlanFile& plan, const std::vector<int64_t>& sm) {
  std::istringstream words(plan.sm);
  std::vector<std::vector<int64_t>> built;
  for (std::string word; words >> word;) {
    if (word.back() == '+') word.pop_back();  // of a hardware-compatible plan
    built.push_back(numbers(word));
  }
  if (std::find(built.begin(), built.end(), sm) != built.end()) return true;
  const std::vector<int64_t> ampere{8, 0};
  return plan.hardware_compatible && !built.empty() && sm >= std::max(ampere, *std::min_element(built.begin(), built.end()));
}

}  // namespace

int64_t PlanFile::max_batch() const {
  int64_t largest = 0;
  for (const auto& profile : profiles) largest = std::max(largest, profile[2]);
  return largest;
}

std::string PlanFile::built_for() const {
  const std::string name = runtime == "tensorrt_rtx" ? "TensorRT-RTX " : "TensorRT ";
  return name + tensorrt_version + " for " + (gpu_name.empty() ? "sm " + sm : gpu_name + " (sm " + sm + ")");
}

bool is_plan(const std::string& path) {
  constexpr size_t kLength = 5;
  return path.size() > kLength && path.compare(path.size() - kLength, kLength, ".plan") == 0;
}

PlanFile read_plan(const std::string& path) {
  const std::string beside = path + ".json";
  PlanFile plan;
  plan.content = read_model_bytes(path);
  const Json values = description(beside);
  if (!values.contains("contract")) throw refuse(beside, "it has no contract.");
  plan.contract = parse_contract(values["contract"].dump(-1, ' ', false, Json::error_handler_t::replace), beside);
  plan.runtime = text_of(values, "runtime", beside);
  if (plan.runtime != "tensorrt" && plan.runtime != "tensorrt_rtx") {
    throw refuse(beside, "the plan's runtime is '" + plan.runtime + "'; known are tensorrt and tensorrt_rtx.");
  }
  plan.tensorrt_version = text_of(values, "tensorrt_version", beside);
  plan.sm = text_of(values, "sm", beside);
  if (values.contains("gpu_name") && values["gpu_name"].is_string()) {
    plan.gpu_name = line_of(values["gpu_name"], "gpu_name", beside);
  }
  plan.profiles = profiles_of(values, beside);
  const Json build = values.contains("build") ? values["build"] : Json();
  if (!build.is_object()) throw refuse(beside, "the plan's build is no mapping of names to values.");
  plan.version_compatible = build.contains("version_compatible") && build["version_compatible"] == true;
  plan.hardware_compatible = build.contains("hardware_compatible") && build["hardware_compatible"] == true;
  if (plan.contract.stream || !plan.contract.n_samples) {
    throw refuse(beside, "the plan takes no waves of one length.");
  }
  if (!values.contains("plan_bytes") || values["plan_bytes"] != plan.content.size()) {
    throw refuse(beside, "the plan is cut short or not the one it was: it has " + std::to_string(plan.content.size()) +
                             " bytes, the description says " + values.value("plan_bytes", Json()).dump() + ".");
  }
  const auto said = text_of(values, "plan_sha256", beside);
  const auto found = sha256_of(plan.content.data(), plan.content.size());
  if (found != said) {
    throw refuse(beside, "the plan was altered: its bytes hash to " + found.substr(0, 12) + ", the description says " +
                             said.substr(0, 12) + ". A plan is code, and this one is not run.");
  }
  return plan;
}

void check_fits(const PlanFile& plan, const std::string& path, const TensorRtHere& here) {
  const std::string text = "this machine has TensorRT " + here.version + " and " + here.gpu_name + " (sm " +
                           std::to_string(here.sm_major) + "." + std::to_string(here.sm_minor) + ").";
  const char* const fix = "build the plan again here: aasist-deploy export MODEL --to trt";
  if (plan.runtime != "tensorrt" || !version_fits(plan, here.version)) {
    throw Error(AASIST_MODEL_FILE, path + " was built by " + plan.built_for() + "; " + text, fix);
  }
  if (!gpu_fits(plan, {here.sm_major, here.sm_minor})) {
    throw Error(AASIST_MODEL_FILE, path + " was built for sm " + plan.sm + " by " + plan.built_for() + "; " + text, fix);
  }
}

}  // namespace aasist
