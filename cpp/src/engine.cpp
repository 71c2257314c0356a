#include "engine.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <thread>

#include "audio.h"
#include "error.h"
#include "session.h"
#include "trt.h"

namespace aasist {
namespace {

constexpr size_t kMaxFilledSamples = size_t{1} << 30;  // 4 GiB; a damaged contract can say any batch

// Cores that this process may run on, not the machine's total.
int usable_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace

Engine::Engine(const OnnxFile& file, const std::string& name, const EngineOptions& options)
    : contract_(read_contract(file, name)), max_batch_(options.max_batch) {
  if (contract_.precision != "fp32" && !options.allow_slow_precision) {
    const char* const runs = contract_.precision == "bf16" ? "does not run" : "is slower than fp32";
    throw Error(AASIST_USAGE,
                name + " computes in " + contract_.precision + ", which " + runs + " in ONNX Runtime on a CPU.",
                "export the model with --precision fp32, or set allow_slow_precision for measurements");
  }
  if (contract_.largest_batch) max_batch_ = std::min(max_batch_, static_cast<size_t>(*contract_.largest_batch));
  backend_ = std::make_unique<Session>(file, contract_, options.threads > 0 ? options.threads : usable_cores(), name);
}

Engine::Engine(const PlanFile& plan, const std::string& path, const EngineOptions& options)
    : contract_(plan.contract), max_batch_(std::min(options.max_batch, static_cast<size_t>(plan.max_batch()))) {
  contract_.smallest_batch = 1;  // the backend fills up what a profile does not hold
  contract_.largest_batch = plan.max_batch();
  backend_ = open_plan(plan, path);
}

Engine::~Engine() = default;

void Engine::check_takes_waves() const {
  if (contract_.stream) {
    throw Error(AASIST_MODEL_FILE, "The model takes a state beside its samples: it is a file for streams.",
                "give it a stream (aasist_stream_open, aasist-score MODEL -); for whole files, export without --stream");
  }
}

void Engine::score(const float* waves, size_t n_waves, size_t n_samples, float* scores) const {
  check_takes_waves();
  const auto n = static_cast<uint64_t>(n_samples);
  const bool fits = contract_.n_samples ? n == static_cast<uint64_t>(*contract_.n_samples)
                                        : n >= static_cast<uint64_t>(contract_.min_samples);
  if (!fits || (contract_.max_samples && n > static_cast<uint64_t>(*contract_.max_samples))) {
    throw Error(AASIST_SHAPE,
                "The model takes waves of " + contract_.lengths() + " samples; these have " + std::to_string(n_samples) + ".",
                "cut or tile them with aasist_window");
  }
  if (n_waves == 0) throw Error(AASIST_SHAPE, "The batch is empty: it holds no wave.");
  if (n_waves > SIZE_MAX / sizeof(float) / n_samples) {
    throw Error(AASIST_SHAPE, std::to_string(n_waves) + " waves of " + std::to_string(n_samples) + " samples fit no memory.");
  }
  if (const auto bad = first_not_finite(waves, n_waves * n_samples, 1)) {
    throw Error(AASIST_SHAPE, "Waves hold samples that are NaN or infinite, first sample " +
                                  std::to_string(*bad % n_samples) + " of wave " + std::to_string(*bad / n_samples) + ".");
  }
  const auto smallest = static_cast<size_t>(contract_.smallest_batch);
  std::vector<float> filled;
  std::vector<float> filled_scores;
  for (size_t at = 0; at < n_waves; at += max_batch_) {
    const size_t piece = std::min(max_batch_, n_waves - at);
    const float* const start = waves + at * n_samples;
    if (piece >= smallest) {
      backend_->run(start, piece, n_samples, scores + at);
      continue;
    }
    if (smallest > kMaxFilledSamples / n_samples) {
      throw Error(AASIST_SHAPE, "The model takes no fewer than " + std::to_string(smallest) + " waves of " +
                                    std::to_string(n_samples) + " samples at once, which fit no memory.");
    }
    // A fixed batch is filled up with the last wave.
    filled.assign(start, start + piece * n_samples);
    for (size_t i = piece; i < smallest; ++i) {
      filled.insert(filled.end(), start + (piece - 1) * n_samples, start + piece * n_samples);
    }
    filled_scores.resize(smallest);
    backend_->run(filled.data(), smallest, n_samples, filled_scores.data());
    std::copy_n(filled_scores.begin(), piece, scores + at);
  }
}

float Engine::step(const float* samples, size_t n_samples, float* state) const {
  return backend_->step(samples, n_samples, state);
}

double Engine::llr(double score) const {
  if (!contract_.calibration) {
    throw Error(AASIST_MODEL_FILE,
                "This " + contract_.architecture +
                    " is not calibrated: its scores order trials, but are no log-likelihood ratios, and there is no "
                    "probability to derive.",
                "aasist-deploy calibrate DEV_SCORES --model model.onnx -o calibrated.onnx");
  }
  return contract_.calibration->scale * score + contract_.calibration->offset;
}

double Engine::p_spoof(double score, double prior_spoof) const {
  if (!(prior_spoof > 0 && prior_spoof < 1)) {
    throw Error(AASIST_USAGE, "The prior of spoof is " + std::to_string(prior_spoof) + "; it must be between 0 and 1.");
  }
  // In the form that loses no bits on either side, as Python's.
  const double odds = llr(score) + std::log((1 - prior_spoof) / prior_spoof);
  const double small = std::exp(-std::abs(odds));
  return (odds <= 0 ? 1 : small) / (1 + small);
}

}  // namespace aasist
