#include "onnx_file.h"

#include <sha2.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>

#include "error.h"
#include "utf8.h"

namespace aasist {
namespace {

// Field numbers of onnx.proto (ModelProto: graph 7, metadata_props 14; StringStringEntryProto: key 1,
// value 2; those of inner_of); wire types of the protobuf encoding.
constexpr uint64_t kGraph = 7;
constexpr uint64_t kMetadata = 14;
constexpr uint64_t kLastField = 31;              // ModelProto's highest is 26
constexpr uint64_t kMaxTag = 0xFFFFFFFF;         // protobuf drops the bits above, and would see another field than we
constexpr uint64_t kMaxFileBytes = 2147483647;  // protobuf's own limit for one message
constexpr size_t kMaxGraphFields = 1000000;      // of one level; a network of ours has a few ten thousand
constexpr int kMaxGraphDepth = 32;               // messages within messages; a node's attribute's tensor is the third
constexpr uint64_t kExternalData = 13;           // of TensorProto: where its numbers lie
// By these letters at byte 4 ONNX Runtime takes a file for its own format, which has no hash here.
constexpr char kOrtFormat[] = {'O', 'R', 'T', 'M'};
constexpr const char* kExportFix = "give a file written by: aasist-deploy export CHECKPOINT -o model.onnx";

struct NotProtobuf {
  std::string reason;
};

struct Field {
  uint64_t number;
  const uint8_t* bytes;  // null unless the field is bytes with a length
  size_t size;
};

// Walks one level of a message.
class Walker {
 public:
  Walker(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  bool next(Field& field) {
    if (at_ == size_) return false;
    const uint64_t tag = varint();
    if (tag > kMaxTag) throw NotProtobuf{"a field number of over 29 bits at byte " + std::to_string(at_ - 1)};
    field = {tag >> 3, nullptr, 0};
    const auto type = static_cast<int>(tag & 7);
    if (field.number == 0) throw NotProtobuf{"field number 0 at byte " + std::to_string(at_ - 1)};
    uint64_t length = 0;
    switch (type) {
      case 0:
        varint();
        return true;
      case 1:
        length = 8;
        break;
      case 2:
        length = varint();
        break;
      case 5:
        length = 4;
        break;
      default:
        throw NotProtobuf{"wire type " + std::to_string(type) + " at byte " + std::to_string(at_ - 1)};
    }
    if (length > size_ - at_) {
      throw NotProtobuf{std::to_string(length - (size_ - at_)) + " bytes are missing in field " +
                        std::to_string(field.number)};
    }
    if (type == 2) {
      field.bytes = data_ + at_;
      field.size = static_cast<size_t>(length);
    }
    at_ += static_cast<size_t>(length);
    return true;
  }

 private:
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      if (at_ == size_) throw NotProtobuf{"it ends inside a number"};
      const uint64_t byte = data_[at_++];
      if (shift == 63 && byte > 1) break;  // over 64 bits
      value |= (byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    throw NotProtobuf{"a number of over 64 bits at byte " + std::to_string(at_ - 1)};
  }

  const uint8_t* data_;
  size_t size_;
  size_t at_ = 0;
};

std::string text_of(const Field& field) {
  std::string text(reinterpret_cast<const char*>(field.bytes), field.size);
  if (!is_utf8(text)) throw NotProtobuf{"metadata that is not UTF-8"};
  return text;
}

enum class Kind { None, Model, Training, Function, Graph, Node, Attribute, Sparse, Tensor };

// The ways from a model to all its tensors: the message of a field of a message, None for all others.
Kind inner_of(Kind outer, uint64_t number) {
  switch (outer) {
    case Kind::Model:
      return number == 7 ? Kind::Graph : number == 20 ? Kind::Training : number == 25 ? Kind::Function : Kind::None;
    case Kind::Training:
      return number == 1 || number == 2 ? Kind::Graph : Kind::None;
    case Kind::Function:
      return number == 7 ? Kind::Node : number == 11 ? Kind::Attribute : Kind::None;
    case Kind::Graph:
      return number == 1 ? Kind::Node : number == 5 ? Kind::Tensor : number == 15 ? Kind::Sparse : Kind::None;
    case Kind::Node:
      return number == 5 ? Kind::Attribute : Kind::None;
    case Kind::Attribute:
      if (number == 5 || number == 10) return Kind::Tensor;
      if (number == 6 || number == 11) return Kind::Graph;
      return number == 22 || number == 23 ? Kind::Sparse : Kind::None;
    case Kind::Sparse:
      return number == 1 || number == 2 ? Kind::Tensor : Kind::None;
    case Kind::Tensor:
    case Kind::None:
      break;
  }
  return Kind::None;
}

struct Message {
  Kind kind;
  const uint8_t* bytes;
  size_t size;
};

// The messages one level further in. Throws Error and NotProtobuf.
std::vector<Message> inner_messages(const std::vector<Message>& level, const std::string& name) {
  std::vector<Message> found;
  size_t n_fields = 0;
  for (const auto& message : level) {
    Walker fields(message.bytes, message.size);
    for (Field field{}; fields.next(field);) {
      if (++n_fields > kMaxGraphFields) {
        throw Error(AASIST_MODEL_FILE,
                    name + " has more than " + std::to_string(kMaxGraphFields) +
                        " fields in its graph, which no network of ours has.",
                    "export the checkpoint again");
      }
      if (message.kind == Kind::Tensor && field.number == kExternalData) {
        throw Error(AASIST_MODEL_FILE,
                    name + " has weights outside of itself, in another file: its hash says nothing of them, and they are "
                           "not read.",
                    "export the checkpoint again; the file it gives is whole in itself");
      }
      const Kind inner = inner_of(message.kind, field.number);
      if (inner != Kind::None && field.bytes != nullptr) found.push_back({inner, field.bytes, field.size});
    }
  }
  return found;
}

}  // namespace

std::string sha256_of(const uint8_t* bytes, size_t n_bytes) {
  SHA2_CTX context;
  SHA256Init(&context);
  SHA256Update(&context, bytes, n_bytes);
  char text[SHA256_DIGEST_STRING_LENGTH];
  SHA256End(&context, text);
  return text;
}

std::vector<uint8_t> read_model_bytes(const std::string& path) {
  const auto unreadable = [&path](const std::string& reason) {
    return Error(AASIST_MODEL_FILE, path + " cannot be read: " + reason + ".", "check the path and its permissions");
  };
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) throw unreadable(std::strerror(errno));
  // Reading a pipe or a device could block for ever.
  if (!S_ISREG(status.st_mode)) throw unreadable(S_ISDIR(status.st_mode) ? "Is a directory" : "not a regular file");
  const auto n_bytes = static_cast<uint64_t>(status.st_size);
  if (n_bytes > kMaxFileBytes) {
    throw Error(AASIST_MODEL_FILE, path + " has " + std::to_string(n_bytes) + " bytes; ONNX allows " +
                                       std::to_string(kMaxFileBytes) + ".");
  }
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw unreadable(std::strerror(errno));
  std::vector<uint8_t> content(static_cast<size_t>(n_bytes));
  stream.read(reinterpret_cast<char*>(content.data()), static_cast<std::streamsize>(n_bytes));
  if (static_cast<uint64_t>(stream.gcount()) != n_bytes) throw unreadable("it became shorter while it was read");
  return content;
}

OnnxFile read_onnx_file(const std::string& path) { return parse_onnx(read_model_bytes(path), path); }

OnnxFile parse_onnx(std::vector<uint8_t> content, const std::string& name) {
  OnnxFile file;
  const auto size = std::to_string(content.size());
  Field graph{};
  int n_graphs = 0;
  if (content.size() >= 8 && std::memcmp(content.data() + 4, kOrtFormat, sizeof kOrtFormat) == 0) {
    throw Error(AASIST_MODEL_FILE, name + " is in ONNX Runtime's own format, which is not read here.", kExportFix);
  }
  try {
    Walker model(content.data(), content.size());
    for (Field field{}; model.next(field);) {
      if (field.number > kLastField) throw NotProtobuf{"unknown field " + std::to_string(field.number)};
      if (field.number == kGraph && field.bytes != nullptr) {
        graph = field;
        ++n_graphs;
      } else if (field.number == kMetadata && field.bytes != nullptr) {
        std::string key;
        std::string value;
        Walker entry(field.bytes, field.size);
        for (Field part{}; entry.next(part);) {
          if (part.bytes == nullptr) continue;
          if (part.number == 1) key = text_of(part);
          if (part.number == 2) value = text_of(part);
        }
        file.metadata[key] = value;
      }
    }
  } catch (const NotProtobuf& error) {
    // The first field of every ModelProto in practice: ir_version, a small varint.
    const bool starts_like_onnx = content.size() > 2 && content[0] == 0x08 && content[1] < 0x40;
    if (n_graphs == 0 && file.metadata.empty() && !starts_like_onnx) {
      throw Error(AASIST_MODEL_FILE, name + " is not an ONNX model (" + size + " bytes, " + error.reason + ").",
                  kExportFix);
    }
    throw Error(AASIST_MODEL_FILE, name + " is damaged or cut short: " + size + " bytes, " + error.reason + ".",
                "copy the file again, or export it again");
  }
  if (n_graphs == 0) {
    throw Error(AASIST_MODEL_FILE, name + " is not an ONNX model: it holds no graph (" + size + " bytes).", kExportFix);
  }
  if (n_graphs > 1) {  // a runtime would merge them, and the hash would be that of the last
    throw Error(AASIST_MODEL_FILE, name + " is damaged: it holds " + std::to_string(n_graphs) + " graphs.");
  }
  file.graph_sha256 = sha256_of(graph.bytes, graph.size);
  file.content = std::move(content);
  return file;
}

void refuse_external_data(const OnnxFile& file, const std::string& name) {
  std::vector<Message> level{{Kind::Model, file.content.data(), file.content.size()}};
  try {
    for (int depth = 0; depth < kMaxGraphDepth && !level.empty(); ++depth) level = inner_messages(level, name);
  } catch (const NotProtobuf& error) {
    throw Error(AASIST_MODEL_FILE, name + " is damaged: " + error.reason + " in its graph.", "export it again");
  }
  if (level.empty()) return;
  throw Error(AASIST_MODEL_FILE,
              name + " has graphs nested more than " + std::to_string(kMaxGraphDepth / 3) +
                  " deep, which no network of ours has.",
              "export the checkpoint again");
}

}  // namespace aasist
