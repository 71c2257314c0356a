#include "files.h"

#include <algorithm>
#include <cmath>
#include <future>
#include <limits>
#include <new>

#include "audio.h"
#include "error.h"

namespace aasist {
namespace {

struct Decoded {
  std::vector<float> window;  // empty where the file could not be decoded
  aasist_file_score about{};
  std::string error;
};

aasist_file_score nothing() {
  aasist_file_score about{};
  about.status = AASIST_INTERNAL;
  about.score = std::numeric_limits<float>::quiet_NaN();
  about.llr = about.p_spoof = std::numeric_limits<double>::quiet_NaN();
  return about;
}

Decoded decode(const Contract& contract, const std::string& path) {
  const auto longest = contract.n_samples ? contract.n_samples : contract.max_samples;
  // One sample more than the window tells a longer file from one that just fits.
  const size_t wanted = longest ? static_cast<size_t>(*longest) + 1 : 0;
  const Audio audio = read_audio(path, contract.sample_rate_hz, wanted);
  Decoded decoded;
  decoded.window.resize(contract.window_of(audio.wave.size()));
  fit_length(audio.wave.data(), audio.wave.size(), decoded.window.data(), decoded.window.size());
  decoded.about = nothing();
  decoded.about.status = AASIST_OK;
  decoded.about.seconds = audio.seconds;
  decoded.about.source_rate_hz = audio.source_rate_hz;
  decoded.about.source_channels = audio.source_channels;
  decoded.about.tiled = audio.wave.size() < decoded.window.size();
  decoded.about.cut = audio.wave.size() > decoded.window.size();
  return decoded;
}

void set_score(const Engine& engine, const std::string& path, float score, aasist_file_score& about) {
  if (!std::isfinite(score)) {
    throw Error(AASIST_MODEL_FILE, path + ": the model's score is " + std::to_string(score) + ".");
  }
  about.score = score;
  if (engine.contract().calibration) {
    about.llr = engine.llr(static_cast<double>(score));
    about.p_spoof = engine.p_spoof(static_cast<double>(score), 0.5);
  }
}

Decoded failed(aasist_status status, std::string message) {
  Decoded decoded;
  decoded.about = nothing();
  decoded.about.status = status;
  decoded.error = std::move(message);
  return decoded;
}

std::vector<Decoded> decode_batch(const Contract& contract, const char* const* paths, size_t n) {
  std::vector<Decoded> batch;
  batch.reserve(n);
  for (size_t i = 0; i < n; ++i) {
    if (paths[i] == nullptr) {
      batch.push_back(failed(AASIST_USAGE, "The path is NULL."));
      continue;
    }
    try {
      batch.push_back(decode(contract, paths[i]));
    } catch (const Error& error) {
      batch.push_back(failed(error.status(), error.what()));
    } catch (const std::bad_alloc&) {
      batch.push_back(failed(AASIST_ENVIRONMENT, std::string(paths[i]) + " does not fit into memory."));
    }
  }
  return batch;
}

// Scores what could be decoded. All windows have one length: a model of variable length gets one at a time.
void score_batch(const Engine& engine, const char* const* paths, std::vector<Decoded>& batch) {
  std::vector<float> waves;
  size_t n_samples = 0;
  size_t n_waves = 0;
  for (const auto& item : batch) {
    if (item.window.empty()) continue;
    n_samples = item.window.size();
    ++n_waves;
    waves.insert(waves.end(), item.window.begin(), item.window.end());
  }
  if (n_waves == 0) return;
  std::vector<float> scores(n_waves);
  engine.score(waves.data(), n_waves, n_samples, scores.data());
  size_t next = 0;
  for (size_t i = 0; i < batch.size(); ++i) {
    if (batch[i].window.empty()) continue;
    try {
      set_score(engine, paths[i], scores[next++], batch[i].about);
    } catch (const Error& error) {
      batch[i] = failed(error.status(), error.what());
    }
  }
}

}  // namespace

aasist_file_score score_file(const Engine& engine, const std::string& path) {
  engine.check_takes_waves();
  Decoded decoded = decode(engine.contract(), path);
  float score = 0;
  engine.score(decoded.window.data(), 1, decoded.window.size(), &score);
  set_score(engine, path, score, decoded.about);
  return decoded.about;
}

void score_files(const Engine& engine, const char* const* paths, size_t n_paths, const OnFile& on_file) {
  engine.check_takes_waves();
  const size_t size = engine.contract().n_samples ? engine.max_batch() : 1;
  const auto launch = [&](size_t start) {
    return std::async(std::launch::async, decode_batch, std::cref(engine.contract()), paths + start,
                      std::min(size, n_paths - start));
  };
  std::future<std::vector<Decoded>> ahead;
  if (n_paths > 0) ahead = launch(0);
  for (size_t start = 0; start < n_paths; start += size) {
    auto batch = ahead.get();
    if (start + size < n_paths) ahead = launch(start + size);
    try {
      score_batch(engine, paths + start, batch);
    } catch (const Error& error) {  // of the runtime: no file of this batch has a score
      for (auto& item : batch) {
        if (item.error.empty()) item = failed(error.status(), error.what());
      }
    }
    for (size_t i = 0; i < batch.size(); ++i) {
      if (!on_file(start + i, batch[i].about, batch[i].error)) return;
    }
  }
}

}  // namespace aasist
