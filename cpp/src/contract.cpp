#include "contract.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "error.h"

namespace aasist {
namespace {

using Json = nlohmann::json;

// Fields of type text hold the text itself, all others JSON.
constexpr std::array kTexts = {"schema",    "architecture",      "padding",     "input_name", "score",
                               "precision", "checkpoint_sha256", "graph_sha256"};
constexpr std::array kJsons = {"config",     "sample_rate_hz", "n_samples", "min_samples", "max_samples",
                               "outputs",    "class_order",    "fp32_nodes", "gate",       "topk",
                               "batch",      "calibration",    "thresholds", "tools",      "stream"};
constexpr std::array kRequired = {"architecture", "config",  "sample_rate_hz",    "n_samples",
                                  "min_samples",  "outputs", "checkpoint_sha256", "graph_sha256"};
constexpr int kMaxDepth = 64;  // the contract needs 4; a parser that recurses must not run out of stack

constexpr int64_t kMaxStateSize = int64_t{1} << 26;  // 256 MiB; AASIST has 143,305 numbers

constexpr int kMaxWindowSeconds = 86400;  // as for files; a window is held in memory whole

class Reader {
 public:
  explicit Reader(std::string name) : name_(std::move(name)) {}

  Error refuse(const std::string& message, const std::string& fix = "") const {
    return Error(AASIST_MODEL_FILE, name_ + ": " + message, fix);
  }

  Json fields(const std::map<std::string, std::string>& metadata) const {
    Json values = Json::object();
    for (const char* key : kTexts) {
      if (const auto at = metadata.find(key); at != metadata.end()) values[key] = at->second;
    }
    for (const char* key : kJsons) {
      if (const auto at = metadata.find(key); at != metadata.end()) values[key] = parsed(key, at->second);
    }
    return values;
  }

  // The known fields of a contract that is one JSON object, as beside a plan.
  Json fields(const std::string& text) const {
    const Json given = parsed("contract", text);
    if (!given.is_object()) throw refuse("its contract is no JSON object.");
    Json values = Json::object();
    for (const char* key : kTexts) {
      if (given.contains(key)) values[key] = line(given[key], key);
    }
    for (const char* key : kJsons) {
      if (given.contains(key)) values[key] = given[key];
    }
    return values;
  }

  void check_required(const Json& values) const {
    for (const char* key : kRequired) {
      if (!values.contains(key)) {
        throw refuse(std::string("the contract has no ") + key + ".", "export the model again");
      }
    }
  }

  int64_t whole(const Json& value, const char* what, int64_t largest = INT64_MAX) const {
    if (!value.is_number_integer() || value.get<Json::number_integer_t>() < 1 ||
        (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(largest))) {
      throw refuse(std::string("the contract's ") + what + " is " + shown(value) + "; it must be a whole number >= 1.");
    }
    return value.get<int64_t>();
  }

  double number(const Json& value, const std::string& what) const {
    if (!value.is_number() || !std::isfinite(value.get<double>())) {
      throw refuse("the contract's " + what + " is " + shown(value) + "; it must be a number.");
    }
    return value.get<double>();
  }

  const Json& mapping(const Json& values, const char* key) const {
    static const Json none = Json::object();
    if (!values.contains(key)) return none;
    if (!values[key].is_object()) {
      throw refuse(std::string("the contract's ") + key + " is no mapping of names to values.");
    }
    return values[key];
  }

  // What people and programs take for one line, and print as it is.
  std::string line(const Json& value, const std::string& what) const {
    if (!value.is_string()) throw refuse("the contract's " + what + " is " + shown(value) + "; it must be a text.");
    auto text = value.get<std::string>();
    if (!is_line(text)) {
      throw refuse("the contract's " + what + " is " + shown(value) + "; it must be one line of text.",
                   "export the model again");
    }
    return text;
  }

  // In ASCII, so that no text of a file steers the terminal that shows the message.
  static std::string shown(const Json& value) {
    std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
    return text.size() > 60 ? text.substr(0, 57) + "..." : text;
  }

 private:
  Json parsed(const char* key, const std::string& text) const {
    bool too_deep = false;
    // Called at each opening bracket; false leaves the part out.
    const auto limit = [&too_deep](int depth, Json::parse_event_t, const Json&) {
      too_deep = too_deep || depth > kMaxDepth;
      return !too_deep;
    };
    Json value = Json::parse(text, limit, /*allow_exceptions=*/false);
    if (too_deep || value.is_discarded()) {
      throw Error(AASIST_MODEL_FILE, "The contract in " + name_ + " cannot be read: its " + key + " is no JSON.",
                  "export the model again");
    }
    return value;
  }

  std::string name_;
};

void check_lines(const Json& values, const Reader& reader) {
  for (const char* key : kTexts) {
    if (values.contains(key)) reader.line(values[key], key);
  }
  if (values.contains("fp32_nodes")) {
    const Json& nodes = values["fp32_nodes"];
    if (!nodes.is_array()) throw reader.refuse("the contract's fp32_nodes is " + Reader::shown(nodes) + ".");
    for (const auto& node : nodes) reader.line(node, "fp32_nodes");
  }
  for (const char* key : {"outputs", "thresholds", "tools"}) {
    for (const auto& [name, value] : reader.mapping(values, key).items()) {
      reader.line(name, std::string("name in ") + key);
      if (key != std::string("thresholds")) reader.line(value, key + ("[" + Reader::shown(name) + "]"));
    }
  }
}

void check_words(const Json& values, const Reader& reader) {
  if (const auto padding = values.value("padding", std::string("tile")); padding != "tile") {
    throw reader.refuse("the contract's padding is '" + padding + "'; only 'tile' is known.");
  }
  if (values.contains("class_order") && values["class_order"] != Json({"spoof", "bonafide"})) {
    throw reader.refuse("the contract's class_order is " + Reader::shown(values["class_order"]) +
                        "; only [\"spoof\",\"bonafide\"] is known.");
  }
  const auto score = values.value("score", std::string("logit of bona fide"));
  if (score != "logit of bona fide" && score != "log-probability of bona fide") {
    throw reader.refuse("the contract's score is '" + score +
                        "'; known are 'logit of bona fide' and 'log-probability of bona fide'.");
  }
  const auto precision = values.value("precision", std::string("fp32"));
  if (precision != "fp32" && precision != "fp16" && precision != "bf16" && precision != "int8") {
    throw reader.refuse("the contract's precision is '" + precision + "'; known are fp32, fp16, bf16 and int8.");
  }
  if (values.contains("gate") && !values["gate"].is_null()) reader.mapping(values, "gate");
  for (const char* key : {"config", "tools"}) reader.mapping(values, key);
}

std::optional<Calibration> calibration_of(const Json& values, const Reader& reader) {
  if (!values.contains("calibration") || values["calibration"].is_null()) return std::nullopt;
  const Json& given = values["calibration"];
  const auto part = [&](const char* key) {
    const Json value = given.is_object() && given.contains(key) ? given[key] : Json();
    return reader.number(value, std::string("calibration ") + key);
  };
  const Calibration calibration{part("scale"), part("offset")};
  if (calibration.scale <= 0) {
    throw reader.refuse("the contract's calibration scale is " + Reader::shown(given["scale"]) +
                        "; it must be above 0, or higher scores would mean less likely bona fide.");
  }
  return calibration;
}

size_t stream_size(const Json& given, const char* key, int64_t least, int64_t largest, const Reader& reader) {
  const Json value = given.contains(key) ? given[key] : Json();
  const bool fits = value.is_number_integer() && !(value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX);
  if (!fits || value.get<int64_t>() < least || value.get<int64_t>() > largest) {
    throw reader.refuse(std::string("the contract's stream.") + key + " is " + Reader::shown(value) +
                        "; it must be a whole number >= " + std::to_string(least) + ".");
  }
  return static_cast<size_t>(value.get<int64_t>());
}

std::optional<StreamLayout> stream_of(const Json& values, const Contract& contract, bool wanted, int64_t longest,
                                      const Reader& reader) {
  const Json given = values.contains("stream") ? values["stream"] : Json();
  if (given.is_object() != wanted || (!wanted && !given.is_null())) {
    throw reader.refuse(std::string("the model's contract is '") + (wanted ? kStreamSchema : kSchema) +
                            "', and its stream is " + Reader::shown(given) + ".",
                        "export the model again");
  }
  if (!wanted) return std::nullopt;
  StreamLayout layout;
  layout.window_samples = stream_size(given, "window_samples", 1, longest, reader);
  layout.frame_samples = stream_size(given, "frame_samples", 1, longest, reader);
  layout.lead_samples = stream_size(given, "lead_samples", 0, longest, reader);
  layout.max_frames = stream_size(given, "max_frames", 1, longest, reader);
  layout.state_size = stream_size(given, "state_size", 1, kMaxStateSize, reader);
  for (const char* key : {"n_frames", "shared_frames"}) stream_size(given, key, 1, longest, reader);
  const auto name_of = [&](const char* key, const char* otherwise) {
    return reader.line(given.contains(key) ? given[key] : Json(otherwise), std::string("stream.") + key);
  };
  layout.state_input = name_of("state_input", "state");
  layout.state_output = name_of("state_output", "next_state");
  if ((layout.window_samples + layout.lead_samples) % layout.frame_samples != 0) {
    throw reader.refuse("the contract's stream says windows of " + std::to_string(layout.window_samples) +
                        " samples after " + std::to_string(layout.lead_samples) +
                        ", which is no multiple of its frames of " + std::to_string(layout.frame_samples) + ".");
  }
  if (contract.n_samples != static_cast<int64_t>(layout.window_samples)) {
    throw reader.refuse("the contract says waves of " + contract.lengths() + " samples, and its stream windows of " +
                        std::to_string(layout.window_samples) + ".");
  }
  return layout;
}

void check_schema(const std::string& schema, const Reader& reader) {
  if (reader.line(schema, "schema") != kSchema && schema != kStreamSchema) {
    throw reader.refuse("The model's contract is '" + schema + "'; this version reads '" + kSchema + "' and '" +
                            kStreamSchema + "'.",
                        "use the version of aasist-deploy that wrote the file, or export it again");
  }
}

// Of the version that was checked.
Contract contract_of(const Json& values, const Reader& reader) {
  reader.check_required(values);
  check_lines(values, reader);
  check_words(values, reader);

  Contract contract;
  contract.architecture = values["architecture"];
  contract.checkpoint_sha256 = values["checkpoint_sha256"];
  contract.graph_sha256 = values["graph_sha256"];
  contract.input_name = values.value("input_name", std::string("wave"));
  contract.score = values.value("score", std::string("logit of bona fide"));
  contract.precision = values.value("precision", std::string("fp32"));
  contract.sample_rate_hz = static_cast<int32_t>(reader.whole(values["sample_rate_hz"], "sample_rate_hz", INT32_MAX));
  contract.min_samples = reader.whole(values["min_samples"], "min_samples");
  if (!values["n_samples"].is_null()) contract.n_samples = reader.whole(values["n_samples"], "n_samples");
  if (values.contains("max_samples") && !values["max_samples"].is_null()) {
    contract.max_samples = reader.whole(values["max_samples"], "max_samples");
  }
  const int64_t longest = int64_t{kMaxWindowSeconds} * contract.sample_rate_hz;
  if (contract.min_samples > longest || contract.n_samples.value_or(1) > longest) {
    throw reader.refuse("the contract's window lasts more than " + std::to_string(kMaxWindowSeconds / 3600) + " hours.");
  }
  if (values.contains("batch")) {
    const Json& batch = values["batch"];
    if (!batch.is_array() || batch.size() != 2) throw reader.refuse("the contract's batch is " + Reader::shown(batch) + ".");
    contract.smallest_batch = reader.whole(batch[0], "smallest batch");
    if (!batch[1].is_null()) contract.largest_batch = reader.whole(batch[1], "largest batch");
  }
  for (const auto& [output, meaning] : reader.mapping(values, "outputs").items()) {
    contract.outputs[output] = meaning.get<std::string>();
  }
  if (contract.outputs.count("score") == 0 && contract.outputs.count("logits") == 0) {
    throw reader.refuse("the model gives no score: its outputs are " + Reader::shown(values["outputs"]) + ".");
  }
  for (const auto& [threshold, value] : reader.mapping(values, "thresholds").items()) {
    contract.thresholds[threshold] = reader.number(value, "threshold " + threshold);
  }
  const Json& topk = reader.mapping(values, "topk");
  if (topk.contains("method") && topk["method"].is_string()) contract.topk_method = topk["method"];
  contract.calibration = calibration_of(values, reader);
  contract.stream = stream_of(values, contract, values["schema"] == kStreamSchema, longest, reader);
  contract.json = values.dump();
  return contract;
}

}  // namespace

bool is_line(const std::string& text) {
  const auto byte = [&text](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  for (size_t i = 0; i < text.size(); ++i) {
    if (byte(i) < 0x20 || byte(i) == 0x7F) return false;
    if (byte(i) == 0xC2 && byte(i + 1) >= 0x80 && byte(i + 1) < 0xA0) return false;  // U+0080 to U+009F
    if (byte(i) == 0xE2 && byte(i + 1) == 0x80 && (byte(i + 2) | 1U) == 0xA9) return false;  // U+2028, U+2029
  }
  return true;
}

size_t Contract::window_of(size_t n) const {
  if (n_samples) return static_cast<size_t>(*n_samples);
  const size_t longest = max_samples ? static_cast<size_t>(*max_samples) : n;
  return std::max(static_cast<size_t>(min_samples), std::min(n, longest));
}

std::string Contract::lengths() const {
  if (n_samples) return std::to_string(*n_samples);
  if (max_samples) return std::to_string(min_samples) + " to " + std::to_string(*max_samples);
  return std::to_string(min_samples) + " or more";
}

Contract read_contract(const OnnxFile& file, const std::string& name) {
  const Reader reader(name);
  const auto schema = file.metadata.find("schema");
  if (schema == file.metadata.end()) {
    throw Error(AASIST_MODEL_FILE, name + " carries no contract: it does not say what it takes and what it gives.",
                "export the checkpoint with: aasist-deploy export CHECKPOINT -o model.onnx");
  }
  check_schema(schema->second, reader);  // before anything else of it is understood
  Contract contract = contract_of(reader.fields(file.metadata), reader);
  if (contract.graph_sha256 != file.graph_sha256) {
    const auto said = contract.graph_sha256.empty() ? "nothing" : contract.graph_sha256.substr(0, 12);
    throw Error(AASIST_MODEL_FILE,
                name + " was altered after export: its graph hashes to " + file.graph_sha256.substr(0, 12) +
                    ", its contract says " + said + ".",
                "export the checkpoint again; a graph edited on purpose needs a new contract");
  }
  refuse_external_data(file, name);
  return contract;
}

Contract parse_contract(const std::string& json, const std::string& name) {
  const Reader reader(name);
  const Json values = reader.fields(json);
  check_schema(values.value("schema", std::string()), reader);
  return contract_of(values, reader);
}

}  // namespace aasist
