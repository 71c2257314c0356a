// One model, many threads; messages stay with the thread that failed.
#include <atomic>
#include <thread>

#include "helpers.h"

TEST_SUITE("threads") {
  TEST_CASE("threads that share a model get the scores that one gets") {
    const Model model = open_model(tiny());
    const TempFile clip("a.wav", wav(std::vector<int16_t>(800, 4096)));
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        const std::vector<float> wave(kTinySamples, static_cast<float>(t) / 16.0F);
        const std::string mine = "/nonexistent/" + std::to_string(t);
        aasist_stream* stream = nullptr;
        wrong += aasist_stream_open(model.get(), AASIST_PCM_F32LE, 16000, 1, 400, &stream) != AASIST_OK;
        for (int i = 0; i < 50; ++i) {
          float score = 0;
          wrong += aasist_score(model.get(), wave.data(), 1, wave.size(), &score) != AASIST_OK;
          wrong += score != kGain * static_cast<float>(t) / 16.0F;
          aasist_file_score result{};
          wrong += aasist_score_file(model.get(), clip.path(), &result) != AASIST_OK;
          wrong += result.score != 1.0F;
          wrong += aasist_stream_push(stream, wave.data(), wave.size() * sizeof(float)) != AASIST_OK;
          wrong += aasist_score_file(model.get(), mine.c_str(), &result) != AASIST_AUDIO;
          wrong += !contains(aasist_message(), mine);
        }
        aasist_window_score window{};
        int windows = 0;
        while (aasist_stream_next(stream, &window) == 1) {
          ++windows;
          wrong += window.score != kGain * static_cast<float>(t) / 16.0F;
        }
        wrong += windows != 99;
        aasist_stream_close(stream);
      });
    }
    for (auto& thread : threads) thread.join();
    CHECK(wrong == 0);
  }

  TEST_CASE("streams of one model in several threads get the windows that one gets") {
    const Model model = open_model(read_bytes(data("tiny-stream.onnx")));
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        const std::vector<float> samples(333, static_cast<float>(t) / 16.0F);
        aasist_stream* stream = nullptr;
        wrong += aasist_stream_open(model.get(), AASIST_PCM_F32LE, 16000, 1, 100, &stream) != AASIST_OK;
        int windows = 0;
        for (int i = 0; i < 20; ++i) {
          wrong += aasist_stream_push(stream, samples.data(), samples.size() * sizeof(float)) != AASIST_OK;
          aasist_window_score window{};
          while (aasist_stream_next(stream, &window) == 1) {
            ++windows;
            wrong += window.score != kGain * static_cast<float>(t) / 16.0F;
          }
        }
        wrong += windows != (20 * 333 - 750) / 100 + 1;
        aasist_stream_close(stream);
      });
    }
    for (auto& thread : threads) thread.join();
    CHECK(wrong == 0);
  }

  TEST_CASE("models are opened and closed in several threads at once") {
    const Bytes bytes = tiny();
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 10; ++i) {
          aasist_model* model = nullptr;
          wrong += aasist_open_bytes(bytes.data(), bytes.size(), nullptr, &model) != AASIST_OK;
          aasist_close(model);
        }
      });
    }
    for (auto& thread : threads) thread.join();
    CHECK(wrong == 0);
  }
}
