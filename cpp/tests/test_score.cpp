// Scores, batches, windows and what is derived from a calibrated score.
#include <cmath>
#include <limits>
#include <numeric>

#include "helpers.h"

namespace {

std::vector<float> waves_of(const std::vector<float>& means, size_t n_samples) {
  std::vector<float> waves;
  for (const float mean : means) waves.insert(waves.end(), n_samples, mean);
  return waves;
}

}  // namespace

TEST_SUITE("score") {
  TEST_CASE("each wave of a batch has its own score, whatever the batch is cut into") {
    std::vector<float> means(37);
    std::iota(means.begin(), means.end(), -18.0F);
    for (auto& mean : means) mean /= 64.0F;  // exact in binary, and so are the scores
    const auto waves = waves_of(means, kTinySamples);
    for (const int32_t max_batch : {0, 1, 5, 64}) {
      aasist_options options{};
      aasist_options_init(&options, sizeof options);
      options.max_batch = max_batch;
      const Model model = open_model(tiny(), &options);
      std::vector<float> scores(means.size());
      REQUIRE(aasist_score(model.get(), waves.data(), means.size(), kTinySamples, scores.data()) == AASIST_OK);
      for (size_t i = 0; i < means.size(); ++i) CHECK(scores[i] == doctest::Approx(kGain * means[i]).epsilon(1e-6));
    }
  }

  TEST_CASE("a score without an output of that name is column 1 of the logits") {
    const Model model = open_model(with_entry(tiny(), "outputs", "{\"logits\": \"logits\"}"));
    const auto waves = waves_of({0.5F, -0.25F}, kTinySamples);
    float scores[2] = {};
    REQUIRE(aasist_score(model.get(), waves.data(), 2, kTinySamples, scores) == AASIST_OK);
    CHECK(scores[0] == 4.0F);
    CHECK(scores[1] == -2.0F);
  }

  TEST_CASE("a fixed batch is filled up and the filling has no score") {
    const Model model = open_model(with_entry(tiny(), "batch", "[4, 4]"));
    const auto waves = waves_of({0.5F, 0.25F, 0.125F, -0.5F, 1.0F}, kTinySamples);
    float scores[6] = {0, 0, 0, 0, 0, 77.0F};
    REQUIRE(aasist_score(model.get(), waves.data(), 5, kTinySamples, scores) == AASIST_OK);
    CHECK(scores[3] == -4.0F);
    CHECK(scores[4] == 8.0F);
    CHECK(scores[5] == 77.0F);
  }

  TEST_CASE("a batch that fits no memory is refused, not tried") {
    const Model model = open_model(with_entry(tiny(), "batch", "[9223372036854775807, null]"));
    const auto waves = waves_of({0.5F}, kTinySamples);
    float score = 0;
    CHECK(aasist_score(model.get(), waves.data(), 1, kTinySamples, &score) == AASIST_SHAPE);
    CHECK_MESSAGE_SAYS("fit no memory");
    CHECK(aasist_score(model.get(), waves.data(), SIZE_MAX / 8, kTinySamples, &score) == AASIST_SHAPE);
  }

  TEST_CASE("waves of another length are refused with both lengths") {
    const Model model = open_model(tiny());
    const auto waves = waves_of({0.5F}, 900);
    float score = 0;
    CHECK(aasist_score(model.get(), waves.data(), 1, 900, &score) == AASIST_SHAPE);
    CHECK_MESSAGE_SAYS("takes waves of 800 samples; these have 900");
    CHECK(aasist_score(model.get(), waves.data(), 1, 0, &score) == AASIST_SHAPE);
    CHECK(aasist_score(model.get(), waves.data(), 0, 800, &score) == AASIST_SHAPE);
    CHECK_MESSAGE_SAYS("batch is empty");
    const Model variable = open_model(tiny_variable());
    CHECK(aasist_score(variable.get(), waves.data(), 1, 99, &score) == AASIST_SHAPE);
    CHECK_MESSAGE_SAYS("100 to 2000 samples; these have 99");
    CHECK(aasist_score(variable.get(), waves.data(), 1, 2001, &score) == AASIST_SHAPE);
    CHECK(aasist_score(variable.get(), waves.data(), 1, 333, &score) == AASIST_OK);
    CHECK(score == doctest::Approx(4.0));
  }

  TEST_CASE("samples that are no numbers are refused with their place") {
    const Model model = open_model(tiny());
    auto waves = waves_of({0.5F, 0.5F}, kTinySamples);
    float scores[2] = {};
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
      waves[kTinySamples + 7] = bad;
      CHECK(aasist_score(model.get(), waves.data(), 2, kTinySamples, scores) == AASIST_SHAPE);
      CHECK_MESSAGE_SAYS("first sample 7 of wave 1");
    }
  }

  TEST_CASE("a window is the first samples, or the clip repeated") {
    const Model model = open_model(tiny());
    std::vector<float> clip(900);
    std::iota(clip.begin(), clip.end(), 0.0F);
    std::vector<float> window(kTinySamples);
    CHECK(aasist_window_samples(model.get(), 900) == kTinySamples);
    for (const size_t n : {900U, 800U, 799U, 300U, 1U}) {
      CAPTURE(n);
      REQUIRE(aasist_window(model.get(), clip.data(), n, window.data(), window.size()) == AASIST_OK);
      bool same = true;
      for (size_t i = 0; i < window.size(); ++i) same = same && window[i] == clip[i % n];
      CHECK(same);
    }
    CHECK(aasist_window(model.get(), clip.data(), 900, window.data(), 799) == AASIST_SHAPE);
    CHECK(aasist_window(model.get(), clip.data(), 0, window.data(), 800) == AASIST_SHAPE);
    CHECK(aasist_window_samples(model.get(), 0) == 0);
    CHECK(aasist_window_samples(nullptr, 5) == 0);
    const Model variable = open_model(tiny_variable());
    CHECK(aasist_window_samples(variable.get(), 7) == 100);
    CHECK(aasist_window_samples(variable.get(), 1234) == 1234);
    CHECK(aasist_window_samples(variable.get(), 5000) == 2000);
  }

  TEST_CASE("llr and p_spoof are those of the contract, in double precision") {
    const Model model = open_model(tiny());
    double llr = 0;
    double p_spoof = 0;
    REQUIRE(aasist_llr(model.get(), 1.75, &llr) == AASIST_OK);
    CHECK(llr == 2.5);
    REQUIRE(aasist_p_spoof(model.get(), 1.75, 0.05, &p_spoof) == AASIST_OK);
    CHECK(p_spoof == doctest::Approx(1 / (1 + std::exp(2.5 + std::log(19.0)))).epsilon(1e-15));
    for (const double prior : {0.0, 1.0, -1.0, 2.0, std::nan("")}) {
      CHECK(aasist_p_spoof(model.get(), 1.75, prior, &p_spoof) == AASIST_USAGE);
    }
    REQUIRE(aasist_p_spoof(model.get(), -1e9, 0.5, &p_spoof) == AASIST_OK);
    CHECK(p_spoof == 1.0);
    REQUIRE(aasist_p_spoof(model.get(), 1e9, 0.5, &p_spoof) == AASIST_OK);
    CHECK(p_spoof == 0.0);
  }

  TEST_CASE("without a calibration there is neither") {
    const Model model = open_model(tiny_variable());
    double value = 0;
    CHECK(aasist_llr(model.get(), 1.0, &value) == AASIST_MODEL_FILE);
    CHECK_MESSAGE_SAYS("is not calibrated");
    CHECK(aasist_p_spoof(model.get(), 1.0, 0.5, &value) == AASIST_MODEL_FILE);
  }
}
