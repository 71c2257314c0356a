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
// value 2); wire types of the protobuf encoding.
constexpr uint64_t kGraph = 7;
constexpr uint64_t kMetadata = 14;
constexpr uint64_t kLastField = 31;              // ModelProto's highest is 26
constexpr uint64_t kMaxFileBytes = 2147483647;  // protobuf's own limit for one message
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

}  // namespace aasist
