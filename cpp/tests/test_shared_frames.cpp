// A file for streams: its windows are those of the whole signal, for every hop and however the bytes arrive.
#include <algorithm>
#include <cmath>
#include <limits>

#include "helpers.h"

namespace {

// tiny-stream.onnx: the score of a window is 8 * mean; see tests/cpp/make_models.py of the repository.
constexpr size_t kWindow = 750;
constexpr uint64_t kFrame = 100;

Bytes tiny_stream() { return read_bytes(data("tiny-stream.onnx")); }

std::vector<float> noise(size_t n) {
  std::vector<float> samples(n);
  uint32_t state = 1;
  for (auto& sample : samples) {
    state = state * 1664525U + 1013904223U;
    sample = static_cast<float>(state >> 8) / 16777216.0F - 0.25F;
  }
  return samples;
}

double mean_of(const std::vector<float>& samples, size_t from, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += static_cast<double>(samples[(from + i) % samples.size()]);
  return sum / static_cast<double>(n);
}

Stream open_stream(const Model& model, uint64_t hop) {
  aasist_stream* stream = nullptr;
  const auto status = aasist_stream_open(model.get(), AASIST_PCM_F32LE, 16000, 1, hop, &stream);
  REQUIRE_MESSAGE(status == AASIST_OK, std::string(aasist_message()));
  return Stream(stream, aasist_stream_close);
}

std::vector<aasist_window_score> windows_of(aasist_stream* stream, const std::vector<float>& samples, size_t chunk) {
  std::vector<aasist_window_score> windows;
  aasist_window_score window{};
  const auto* const bytes = reinterpret_cast<const uint8_t*>(samples.data());
  const size_t n_bytes = samples.size() * sizeof(float);
  for (size_t at = 0; at < n_bytes; at += chunk) {
    REQUIRE(aasist_stream_push(stream, bytes + at, std::min(chunk, n_bytes - at)) == AASIST_OK);
    while (aasist_stream_next(stream, &window) == 1) windows.push_back(window);
  }
  REQUIRE(aasist_stream_finish(stream) == AASIST_OK);
  while (aasist_stream_next(stream, &window) == 1) windows.push_back(window);
  return windows;
}

}  // namespace

TEST_SUITE("shared frames") {
  TEST_CASE("each window has the score of its samples, for every hop and chunk") {
    const Model model = open_model(tiny_stream());
    const auto samples = noise(5000);
    for (const uint64_t n_frames : {1U, 2U, 3U, 7U, 8U, 9U, 40U}) {
      const uint64_t hop = n_frames * kFrame;
      for (const size_t chunk : {1U, 7U, 6001U, 100000U}) {
        CAPTURE(hop);
        CAPTURE(chunk);
        const auto stream = open_stream(model, hop);
        const auto windows = windows_of(stream.get(), samples, chunk);
        REQUIRE(windows.size() == (5000 - kWindow) / hop + 1);
        for (size_t i = 0; i < windows.size(); ++i) {
          CHECK(windows[i].index == i);
          CHECK(windows[i].start == i * hop);
          CHECK(windows[i].end == i * hop + kWindow);
          CHECK(static_cast<double>(windows[i].score) ==
                doctest::Approx(8 * mean_of(samples, i * hop, kWindow)).epsilon(1e-5));
        }
      }
    }
  }

  TEST_CASE("a window is there when its last sample is") {
    const Model model = open_model(tiny_stream());
    const auto stream = open_stream(model, kFrame);
    const auto samples = noise(kWindow);
    aasist_window_score window{};
    REQUIRE(aasist_stream_push(stream.get(), samples.data(), (kWindow - 1) * sizeof(float)) == AASIST_OK);
    CHECK(aasist_stream_next(stream.get(), &window) == 0);
    REQUIRE(aasist_stream_push(stream.get(), samples.data() + kWindow - 1, sizeof(float)) == AASIST_OK);
    CHECK(aasist_stream_next(stream.get(), &window) == 1);
    CHECK(window.end == kWindow);
  }

  TEST_CASE("a stream shorter than a window is tiled, as files are") {
    const Model model = open_model(tiny_stream());
    for (const size_t n : {1U, 99U, 300U, 749U}) {
      CAPTURE(n);
      const auto samples = noise(n);
      const auto stream = open_stream(model, kFrame);
      const auto windows = windows_of(stream.get(), samples, 640);
      REQUIRE(windows.size() == 1);
      CHECK(windows[0].start == 0);
      CHECK(windows[0].end == n);
      CHECK(static_cast<double>(windows[0].score) == doctest::Approx(8 * mean_of(samples, 0, kWindow)).epsilon(1e-5));
    }
  }

  TEST_CASE("a caller learns the frame, and a hop that is no multiple of it is refused with those that are near") {
    const Model model = open_model(tiny_stream());
    aasist_info info{};
    REQUIRE(aasist_model_info(model.get(), &info, sizeof info) == AASIST_OK);
    CHECK(info.frame_samples == 100);
    CHECK(info.n_samples == 750);
    CHECK(info.is_calibrated == 1);
    aasist_stream* stream = nullptr;
    CHECK(aasist_stream_open(model.get(), AASIST_PCM_F32LE, 16000, 1, 250, &stream) == AASIST_USAGE);
    CHECK(contains(aasist_fix(), "a hop of 200 or 300"));
    CHECK(aasist_stream_open(model.get(), AASIST_PCM_F32LE, 16000, 1, 99, &stream) == AASIST_USAGE);
    CHECK(contains(aasist_fix(), "a hop of 100,"));
    CHECK(stream == nullptr);
  }

  TEST_CASE("functions of whole waves refuse a file for streams") {
    const Model model = open_model(tiny_stream());
    const std::vector<float> wave(kWindow, 0.25F);
    const TempFile clip("a.wav", wav(std::vector<int16_t>(kWindow, 4096)));
    float score = 0;
    aasist_file_score result{};
    const char* const path = clip.path();
    const auto hear = [](void* called, size_t, const aasist_file_score*, const char*) {
      *static_cast<bool*>(called) = true;
      return 0;
    };
    bool called = false;
    CHECK(aasist_score(model.get(), wave.data(), 1, kWindow, &score) == AASIST_MODEL_FILE);
    CHECK_MESSAGE_SAYS("it is a file for streams");
    CHECK(aasist_score_file(model.get(), path, &result) == AASIST_MODEL_FILE);
    CHECK(aasist_score_files(model.get(), &path, 1, hear, &called) == AASIST_MODEL_FILE);
    CHECK(!called);
  }

  TEST_CASE("what the contract says of streams is enforced") {
    const std::string good =
        R"({"window_samples":750,"frame_samples":100,"lead_samples":50,"max_frames":5,"n_frames":8,"shared_frames":7,)"
        R"("state_size":750,"state_input":"state","state_output":"next_state"})";
    CHECK(opening(with_entry(tiny_stream(), "stream", good)) == AASIST_OK);
    struct Row {
      const char* part;
      const char* changed;
      const char* says;
    };
    const Row rows[] = {{"\"frame_samples\":100", "\"frame_samples\":0", "stream.frame_samples is 0"},
                        {"\"frame_samples\":100", "\"frame_samples\":3.5", "stream.frame_samples is 3.5"},
                        {"\"frame_samples\":100,", "", "stream.frame_samples is null"},
                        {"\"frame_samples\":100", "\"frame_samples\":101", "no multiple of its frames of 101"},
                        {"\"lead_samples\":50", "\"lead_samples\":-50", "stream.lead_samples is -50"},
                        {"\"max_frames\":5", "\"max_frames\":18446744073709551615", "stream.max_frames"},
                        {"\"state_size\":750", "\"state_size\":99999999999", "stream.state_size"},
                        {"\"state_size\":750", "\"state_size\":749", "the graph takes 750"},
                        {"\"window_samples\":750", "\"window_samples\":850", "and its stream windows of 850"},
                        {"\"state_input\":\"state\"", "\"state_input\":\"other\"", "says other, samples -> score"},
                        {"\"state_output\":\"next_state\"", "\"state_output\":\"other\"", "-> score, other"},
                        {"\"state_output\":\"next_state\"", "\"state_output\":7", "stream.state_output is 7; it must be a text"},
                        {"\"state_output\":\"next_state\"", "\"state_output\":\"next\\u2028\"",
                         "stream.state_output is \"next\\u2028\"; it must be one line"}};
    for (const auto& row : rows) {
      CAPTURE(row.changed);
      std::string changed = good;
      changed.replace(changed.find(row.part), std::string(row.part).size(), row.changed);
      CHECK(opening(with_entry(tiny_stream(), "stream", changed)) == AASIST_MODEL_FILE);
      CHECK_MESSAGE_SAYS(row.says);
    }
    CHECK(opening(with_entry(tiny_stream(), "stream", "null")) == AASIST_MODEL_FILE);
    CHECK(opening(with_entry(tiny(), "stream", good)) == AASIST_MODEL_FILE);
    CHECK(opening(with_entry(tiny(), "schema", "aasist-deploy/stream-contract/1")) == AASIST_MODEL_FILE);
    CHECK_MESSAGE_SAYS("is 'aasist-deploy/stream-contract/1', and its stream is null");
  }

  TEST_CASE("a stream that failed is at its end, and keeps what was scored") {
    const Model model = open_model(tiny_stream());
    const auto stream = open_stream(model, kFrame);
    std::vector<float> samples(kWindow, 0.25F);
    REQUIRE(aasist_stream_push(stream.get(), samples.data(), samples.size() * sizeof(float)) == AASIST_OK);
    samples.assign(kWindow, std::numeric_limits<float>::max());  // whose mean is infinite
    CHECK(aasist_stream_push(stream.get(), samples.data(), samples.size() * sizeof(float)) == AASIST_MODEL_FILE);
    CHECK_MESSAGE_SAYS("The model's score of the window from sample 100 on is");
    CHECK(aasist_stream_push(stream.get(), samples.data(), 4) == AASIST_USAGE);
    aasist_window_score window{};
    CHECK(aasist_stream_next(stream.get(), &window) == 1);
    CHECK(window.score == doctest::Approx(2.0));
    CHECK(aasist_stream_next(stream.get(), &window) == 0);
  }
}
