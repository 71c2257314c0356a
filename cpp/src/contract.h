// What a model file says of itself: docs/contract.md, layouts aasist-deploy/contract/1 and, of a file for streams,
// aasist-deploy/stream-contract/1.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "onnx_file.h"

namespace aasist {

inline constexpr const char* kSchema = "aasist-deploy/contract/1";
inline constexpr const char* kStreamSchema = "aasist-deploy/stream-contract/1";

struct Calibration {
  double scale;
  double offset;
};

// How a file for streams is called: samples of whole frames and a state in, a score and the next state out.
struct StreamLayout {
  size_t window_samples = 0;
  size_t frame_samples = 0;  // a call takes a multiple, and windows start at multiples
  size_t lead_samples = 0;   // of any value, before a stream's first one
  size_t max_frames = 0;     // of one call
  size_t state_size = 0;     // numbers in the state of one stream
  std::string state_input;
  std::string state_output;
};

struct Contract {
  std::string architecture;
  std::string score;
  std::string precision;
  std::string input_name;
  std::string topk_method;  // "" without graph pooling
  std::string graph_sha256;
  std::string checkpoint_sha256;
  std::string json;  // all known keys as one JSON object
  int32_t sample_rate_hz = 0;
  std::optional<int64_t> n_samples;  // none: variable length
  int64_t min_samples = 0;
  std::optional<int64_t> max_samples;
  int64_t smallest_batch = 1;
  std::optional<int64_t> largest_batch;
  std::map<std::string, std::string> outputs;  // name -> what it holds
  std::map<std::string, double> thresholds;
  std::optional<Calibration> calibration;
  std::optional<StreamLayout> stream;  // of a file for streams alone

  // How many samples of a clip of `n` >= 1 are scored.
  size_t window_of(size_t n) const;
  // "64600", "1000 or more", "1000 to 2000".
  std::string lengths() const;
};

// Whether UTF-8 text is one line: no control character, no separator of lines or paragraphs.
bool is_line(const std::string& text);

// Reads the contract and checks that the graph is the one it was written for; `name` is used in messages.
// Throws Error(AASIST_MODEL_FILE).
Contract read_contract(const OnnxFile& file, const std::string& name);

// The same of a contract that is one JSON object, as a plan has it; the hash of a graph is not looked at.
Contract parse_contract(const std::string& json, const std::string& name);

}  // namespace aasist
