// The TensorRT backend against a fake of the interface that it calls: what it asks for, and what it makes of answers.
// Whether TensorRT itself agrees is not known from this.
#include <numeric>

#include "fake_tensorrt.h"
#include "plan_helpers.h"

namespace {

using Json = nlohmann::json;

struct Fresh {
  Fresh() { FakeTensorRt::instance() = {}; }
  ~Fresh() { CHECK(FakeTensorRt::instance().n_arrays == 0); }
};

Model open_plan(const TempPlan& file) {
  aasist_model* model = nullptr;
  const auto status = aasist_open(file.path().c_str(), nullptr, &model);
  REQUIRE_MESSAGE(status == AASIST_OK, std::string(aasist_message()));
  return Model(model, aasist_close);
}

}  // namespace

TEST_SUITE("tensorrt") {
  TEST_CASE("batches of every size get their scores in the profile that holds them") {
    const Fresh fresh;
    const TempPlan file([](Json&) {});
    const Model model = open_plan(file);
    std::vector<float> means(37);
    std::iota(means.begin(), means.end(), -18.0F);
    std::vector<float> waves;
    for (const float mean : means) waves.insert(waves.end(), kTinySamples, mean / 64.0F);
    for (const size_t n : {1U, 3U, 5U, 16U, 37U}) {
      CAPTURE(n);
      std::vector<float> scores(n);
      REQUIRE(aasist_score(model.get(), waves.data(), n, kTinySamples, scores.data()) == AASIST_OK);
      for (size_t i = 0; i < n; ++i) CHECK(scores[i] == kGain * means[i] / 64.0F);
    }
    // 5 waves are more than the first profile holds and fewer than the second one does; 37 are 16, 16 and 5.
    CHECK(FakeTensorRt::instance().batches == std::vector<int64_t>{1, 3, 8, 16, 16, 16, 8});
    double llr = 0;
    CHECK(aasist_llr(model.get(), 1.0, &llr) == AASIST_OK);
    CHECK(llr == 1.0);
  }

  TEST_CASE("a model without the output score is read from its logits") {
    const Fresh fresh;
    const TempPlan file([](Json& v) { v["contract"]["outputs"].erase("score"); });
    const Model model = open_plan(file);
    const std::vector<float> wave(kTinySamples, 0.25F);
    float score = 0;
    REQUIRE(aasist_score(model.get(), wave.data(), 1, wave.size(), &score) == AASIST_OK);
    CHECK(score == 2.0F);
  }

  TEST_CASE("a plan for another version or GPU, or none here, is refused before it is loaded") {
    const Fresh fresh;
    auto& fake = FakeTensorRt::instance();
    const TempPlan file([](Json&) {});
    fake.sm_major = 12;
    CHECK(file.open() == AASIST_MODEL_FILE);
    CHECK_MESSAGE_SAYS("this machine has TensorRT 10.13.3.9 and a fake GPU (sm 12.0)");
    fake.library_version = 101400;
    CHECK(file.open() == AASIST_ENVIRONMENT);
    CHECK_MESSAGE_SAYS("was compiled for TensorRT 10.13.3.9; the one that was loaded says 101400");
    fake.n_devices = 0;
    CHECK(file.open() == AASIST_ENVIRONMENT);
    CHECK_MESSAGE_SAYS("no CUDA-capable device is detected");
  }

  TEST_CASE("what TensorRT refuses or has otherwise is told in its words") {
    const Fresh fresh;
    auto& fake = FakeTensorRt::instance();
    CHECK(TempPlan([](Json&) {}, "other bytes").open() == AASIST_MODEL_FILE);
    CHECK_MESSAGE_SAYS("does not take it: magic tag does not match");
    CHECK(TempPlan([](Json& v) { v["profiles"] = {{1, 2, 4}}; }).open() == AASIST_MODEL_FILE);
    CHECK_MESSAGE_SAYS("another number of profiles");
    CHECK(TempPlan([](Json& v) { v["profiles"] = {{1, 2, 5}, {8, 8, 16}}; }).open() == AASIST_MODEL_FILE);
    CHECK_MESSAGE_SAYS("other profiles than its description");
    CHECK(TempPlan([](Json& v) { v["contract"]["input_name"] = "audio"; }).open() == AASIST_MODEL_FILE);
    CHECK_MESSAGE_SAYS("has an input 'wave', which the contract does not know");
    fake.n_samples = 900;
    CHECK(TempPlan([](Json&) {}).open() == AASIST_MODEL_FILE);
    CHECK_MESSAGE_SAYS("takes no float32 waves of 800 samples");
  }

  TEST_CASE("a run that fails is an error, and host code is allowed only where the plan says so") {
    const Fresh fresh;
    auto& fake = FakeTensorRt::instance();
    const TempPlan file([](Json& v) { v["build"]["version_compatible"] = true; });
    const Model model = open_plan(file);
    CHECK(fake.host_code_allowed);
    fake.fails_to_run = true;
    const std::vector<float> wave(kTinySamples);
    float score = 0;
    CHECK(aasist_score(model.get(), wave.data(), 1, wave.size(), &score) == AASIST_ENVIRONMENT);
    CHECK_MESSAGE_SAYS("TensorRT did not run a batch of 1");
  }
}
