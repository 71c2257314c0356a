// A plan is opened only with the JSON that was written for its bytes, and by what it was built for.
#include "plan_file.h"

#include "error.h"
#include "plan_helpers.h"

namespace {

using Json = nlohmann::json;

std::string refusal(const aasist::PlanFile& plan, const aasist::TensorRtHere& here) {
  try {
    aasist::check_fits(plan, "model.plan", here);
    return "";
  } catch (const aasist::Error& error) {
    CHECK(error.status() == AASIST_MODEL_FILE);
    return error.what();
  }
}

}  // namespace

TEST_SUITE("plan") {
  TEST_CASE("a description and its plan are read together") {
    const TempPlan file([](Json&) {});
    const auto plan = aasist::read_plan(file.path());
    CHECK(plan.content.size() == 9);
    CHECK(plan.contract.architecture == "tiny");
    CHECK(plan.contract.calibration->scale == 2.0);
    CHECK(plan.profiles.size() == 2);
    CHECK(plan.max_batch() == 16);
    CHECK(plan.built_for() == "TensorRT 10.13.3.9 for sm 9.0");
    // These bytes are no plan, and the tests may run where TensorRT was left out: a library with it says so too.
    const auto status = file.open();
    CHECK((status == AASIST_ENVIRONMENT || status == AASIST_MODEL_FILE));
    if (status == AASIST_ENVIRONMENT) CHECK(!std::string(aasist_fix()).empty());
  }

  TEST_CASE("what is missing, damaged or of another version is refused by name") {
    struct Row {
      const char* says;
      std::function<void(Json&)> change;
    };
    const Row rows[] = {
        {"model.plan.json cannot be read", [](Json& v) { v = nullptr; }},
        {"is no JSON object", [](Json& v) { v = Json::array(); }},
        {"is 'aasist-deploy/plan/2'; this version reads", [](Json& v) { v["schema"] = "aasist-deploy/plan/2"; }},
        {"is ''; this version reads", [](Json& v) { v.erase("schema"); }},
        {"it has no contract", [](Json& v) { v.erase("contract"); }},
        {"its contract is no JSON object", [](Json& v) { v["contract"] = 3; }},
        {"the contract has no n_samples", [](Json& v) { v["contract"].erase("n_samples"); }},
        {"the contract's architecture is 3; it must be a text", [](Json& v) { v["contract"]["architecture"] = 3; }},
        {"architecture is \"a\\u2028b\"; it must be one line", [](Json& v) { v["contract"]["architecture"] = "a\u2028b"; }},
        {"the plan's schema is \"\\u001b[2J\"; it must be", [](Json& v) { v["schema"] = "\x1b[2J"; }},
        {"the plan's runtime is \"tensorrt\\n\"; it must be", [](Json& v) { v["runtime"] = "tensorrt\n"; }},
        {"the plan's gpu_name is \"H\\u008500\"; it must be", [](Json& v) { v["gpu_name"] = "H\u008500"; }},
        {"aasist-deploy/contract/2'; this version", [](Json& v) { v["contract"]["schema"] = "aasist-deploy/contract/2"; }},
        {"takes no waves of one length", [](Json& v) { v["contract"]["n_samples"] = nullptr; }},
        {"runtime is 'cuda'", [](Json& v) { v["runtime"] = "cuda"; }},
        {"tensorrt_version is no text", [](Json& v) { v["tensorrt_version"] = 10; }},
        {"has no optimization profile", [](Json& v) { v["profiles"] = Json::array(); }},
        {"a profile is [1,2]", [](Json& v) { v["profiles"] = {{1, 2}}; }},
        {"a profile is [4,2,1]", [](Json& v) { v["profiles"] = {{4, 2, 1}}; }},
        {"a profile is [1,2,18446744073709551615]", [](Json& v) { v["profiles"] = {{1, 2, UINT64_MAX}}; }},
        {"build is no mapping", [](Json& v) { v["build"] = "x"; }},
        {"it has 9 bytes, the description says 10", [](Json& v) { v["plan_bytes"] = 10; }},
        {"was altered: its bytes hash to", [](Json& v) { v["plan_sha256"] = std::string(64, '0'); }},
    };
    for (const auto& row : rows) {
      CAPTURE(row.says);
      const TempPlan file(row.change);
      CHECK(file.open() == AASIST_MODEL_FILE);
      CHECK_MESSAGE_SAYS(row.says);
    }
  }

  TEST_CASE("a plan runs on what it was built for, and with less care where it was built so") {
    aasist::PlanFile plan;
    plan.runtime = "tensorrt";
    plan.tensorrt_version = "10.13.3.9";
    plan.sm = "8.9 9.0";
    const auto on = [](const char* version, int major, int minor) {
      return aasist::TensorRtHere{version, "a GPU", major, minor};
    };
    CHECK(refusal(plan, on("10.13.3.9", 9, 0)).empty());
    CHECK(refusal(plan, on("10.13.3.9", 8, 9)).empty());
    CHECK(contains(refusal(plan, on("10.13.3.10", 9, 0)), "this machine has TensorRT 10.13.3.10 and a GPU (sm 9.0)"));
    CHECK(contains(refusal(plan, on("10.13.3.9", 12, 0)), "was built for sm 8.9 9.0"));
    plan.version_compatible = true;
    CHECK(refusal(plan, on("10.14.0.1", 9, 0)).empty());
    CHECK(!refusal(plan, on("10.12.9.9", 9, 0)).empty());
    CHECK(!refusal(plan, on("11.0.0.0", 9, 0)).empty());
    plan.hardware_compatible = true;
    plan.sm = "8.0+";
    CHECK(refusal(plan, on("10.13.3.9", 12, 0)).empty());
    CHECK(!refusal(plan, on("10.13.3.9", 7, 5)).empty());
    plan.runtime = "tensorrt_rtx";
    CHECK(contains(refusal(plan, on("10.13.3.9", 12, 0)), "was built by TensorRT-RTX 10.13.3.9"));
  }
}
