// Every field that a reader acts on is enforced.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "helpers.h"

namespace {

using Json = nlohmann::json;

aasist_status opening_with(const char* key, const std::string& value) { return opening(with_entry(tiny(), key, value)); }

}  // namespace

TEST_SUITE("contract") {
  TEST_CASE("what the file says is what the caller is told") {
    const Model model = open_model(tiny());
    aasist_info info{};
    REQUIRE(aasist_model_info(model.get(), &info, sizeof info) == AASIST_OK);
    CHECK(info.size == sizeof info);
    CHECK(std::string(info.architecture) == "tiny");
    CHECK(std::string(info.score) == "logit of bona fide");
    CHECK(std::string(info.precision) == "fp32");
    CHECK(std::string(info.topk_method).empty());
    CHECK(std::string(info.graph_sha256).size() == 64);
    CHECK(info.sample_rate_hz == 16000);
    CHECK(info.n_samples == 800);
    CHECK(info.min_samples == 800);
    CHECK(info.max_samples == 0);
    CHECK(info.smallest_batch == 1);
    CHECK(info.largest_batch == 0);
    CHECK(info.is_calibrated == 1);
    CHECK(contains(info.contract_json, "\"gain\":8.0"));
  }

  TEST_CASE("a newer contract is refused with both versions") {
    CHECK(opening_with("schema", "aasist-deploy/contract/2") == AASIST_MODEL_FILE);
    CHECK_MESSAGE_SAYS("contract is 'aasist-deploy/contract/2'; this version reads 'aasist-deploy/contract/1'");
    CHECK(contains(aasist_fix(), "export it again"));
  }

  TEST_CASE("a model without a contract is refused") {
    // The graph alone: field 7 of the tiny model, cut out by dropping the metadata that follows it.
    const Bytes whole = tiny();
    size_t end = whole.size();
    const std::string key = "schema";
    Bytes none = whole;
    for (size_t i = 0; i + key.size() < end; ++i) {
      if (std::equal(key.begin(), key.end(), none.begin() + static_cast<std::ptrdiff_t>(i))) none[i] = 'S';
    }
    CHECK(opening(none) == AASIST_MODEL_FILE);
    CHECK_MESSAGE_SAYS("carries no contract");
  }

  TEST_CASE("keys that are not known are ignored") { CHECK(opening_with("somebody/else", "{") == AASIST_OK); }

  TEST_CASE("values that no reader could act on are refused by name") {
    struct Row {
      const char* key;
      const char* value;
      const char* says;
    };
    const Row rows[] = {
        {"sample_rate_hz", "0", "sample_rate_hz is 0"},
        {"sample_rate_hz", "16000.0", "sample_rate_hz is 16000.0"},
        {"sample_rate_hz", "true", "sample_rate_hz is true"},
        {"sample_rate_hz", "\"16000\"", "sample_rate_hz is \"16000\""},
        {"sample_rate_hz", "99999999999", "sample_rate_hz is 99999999999"},
        {"sample_rate_hz", "18446744073709551615", "sample_rate_hz is 18446744073709551615"},
        {"sample_rate_hz", "1e999", "no JSON"},
        {"sample_rate_hz", "NaN", "no JSON"},
        {"sample_rate_hz", "", "no JSON"},
        {"n_samples", "-800", "n_samples is -800"},
        {"n_samples", "999999999999", "lasts more than 24 hours"},
        {"min_samples", "[]", "min_samples is []"},
        {"max_samples", "0", "max_samples is 0"},
        {"padding", "zeros", "padding is 'zeros'; only 'tile' is known"},
        {"class_order", "[\"bonafide\", \"spoof\"]", "class_order is [\"bonafide\",\"spoof\"]"},
        {"class_order", "3", "class_order is 3"},
        {"score", "probability of spoof", "score is 'probability of spoof'"},
        {"precision", "fp8", "precision is 'fp8'"},
        {"config", "[]", "config is no mapping"},
        {"gate", "7", "gate is no mapping"},
        {"topk", "[]", "topk is no mapping"},
        {"tools", "\"x\"", "tools is no mapping"},
        {"outputs", "[\"score\"]", "outputs is no mapping"},
        {"outputs", "{\"embedding\": \"x\"}", "gives no score"},
        {"outputs", "{\"score\": \"x\", \"other\": \"y\"}", "the graph has wave -> score, logits"},
        {"input_name", "audio", "says audio -> logits, score; the graph has wave"},
        {"n_samples", "900", "says waves of 900 samples; the graph takes 800"},
        {"n_samples", "null", "says waves of any number of samples; the graph takes 800"},
        {"batch", "[1]", "batch is [1]"},
        {"batch", "[0, null]", "smallest batch is 0"},
        {"batch", "[1, 0]", "largest batch is 0"},
        {"batch", "7", "batch is 7"},
        {"thresholds", "{\"eer\": \"0\"}", "threshold eer is \"0\""},
        {"thresholds", "[]", "thresholds is no mapping"},
        {"fp32_nodes", "3", "fp32_nodes is 3"},
        {"fp32_nodes", "[3]", "fp32_nodes is 3; it must be a text"},
        {"outputs", "{\"score\": 3}", "outputs[\"score\"] is 3; it must be a text"},
        {"tools", "{\"torch\": null}", "tools[\"torch\"] is null; it must be a text"},
        {"calibration", "{\"scale\": 1}", "calibration offset is null"},
        {"calibration", "[]", "calibration scale is null"},
        {"calibration", "{\"scale\": 0, \"offset\": 0}", "must be above 0"},
        {"calibration", "{\"scale\": true, \"offset\": 0}", "calibration scale is true"},
        {"graph_sha256", "", "its contract says nothing"},
        {"graph_sha256", "abc", "its contract says abc"},
    };
    for (const auto& row : rows) {
      CAPTURE(row.key);
      CAPTURE(row.value);
      CHECK(opening_with(row.key, row.value) == AASIST_MODEL_FILE);
      CHECK_MESSAGE_SAYS(row.says);
    }
  }

  TEST_CASE("a text of more than one line is refused wherever it is, and its message is one line") {
    const std::string ends[] = {"\n", "\r", "\x1b", "\x7f", "\u0080", "\u0085", "\u009f", "\u2028", "\u2029"};
    const auto json = [](const std::string& name) { return Json(name).dump(); };
    for (const auto& end : ends) {
      const std::string name = "a" + end + "# evil";
      CAPTURE(Json(name).dump(-1, ' ', true));
      const std::pair<const char*, std::string> rows[] = {
          {"schema", name},
          {"architecture", name},
          {"checkpoint_sha256", name},
          {"input_name", name},
          {"precision", name},
          {"padding", name},
          {"score", name},
          {"fp32_nodes", "[" + json(name) + "]"},
          {"outputs", "{\"score\": " + json(name) + "}"},
          {"outputs", "{\"score\": \"x\", " + json(name) + ": \"y\"}"},
          {"thresholds", "{" + json(name) + ": 0}"},
          {"tools", "{" + json(name) + ": \"1\"}"},
          {"tools", "{\"torch\": " + json(name) + "}"},
      };
      for (const auto& [key, value] : rows) {
        CAPTURE(key);
        CHECK(opening_with(key, value) == AASIST_MODEL_FILE);
        CHECK_MESSAGE_SAYS("it must be one line of text");
        CHECK(!contains(aasist_message(), end));
      }
    }
    for (const char* name : {"AASIST gr\u00f6\u00dfer", "\u4e2d\u6587", "\u00a0", "\u2027\u202a", "a`'\"<b>", " "}) {
      CHECK(opening_with("architecture", name) == AASIST_OK);
    }
  }

  TEST_CASE("JSON nested without end is refused, not followed") {
    CHECK(opening_with("config", std::string(200000, '[')) == AASIST_MODEL_FILE);
    CHECK(opening_with("config", "{\"a\":" + std::string(5000, '[') + std::string(5000, ']') + "}") == AASIST_MODEL_FILE);
  }

  TEST_CASE("lower precision is refused on a CPU unless it is asked for") {
    const Bytes half = with_entry(tiny(), "precision", "fp16");
    CHECK(opening(half) == AASIST_USAGE);
    CHECK_MESSAGE_SAYS("computes in fp16, which is slower than fp32");
    aasist_options options{};
    REQUIRE(aasist_options_init(&options, sizeof options) == AASIST_OK);
    options.allow_slow_precision = 1;
    open_model(half, &options);
  }

  TEST_CASE("thresholds are found by name, and the names are told") {
    const Model model = open_model(tiny());
    double value = 0;
    CHECK(aasist_threshold(model.get(), "eer", &value) == AASIST_OK);
    CHECK(value == 0.25);
    CHECK(aasist_threshold(model.get(), "far(0.01)", &value) == AASIST_USAGE);
    CHECK_MESSAGE_SAYS("no threshold 'far(0.01)'; it has eer");
  }
}
