// aasist-score: scores of audio files, or of raw PCM on stdin, without Python.
#include <aasist/aasist.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>

#include "arguments.h"
#include "rows.h"

namespace {

constexpr double kDefaultHopSeconds = 1.0;  // as aasist-deploy stream; the nearest number of frames

struct Failed {
  int exit_code;
};

int complain(const char* message, const char* fix = "") {
  std::fprintf(stderr, "error: %s\n", message);
  if (*fix != '\0') std::fprintf(stderr, "fix: %s\n", fix);
  return 2;
}

void check(aasist_status status) {
  if (status == AASIST_OK) return;
  complain(aasist_message(), aasist_fix());
  throw Failed{status == AASIST_ENVIRONMENT ? 3 : status == AASIST_AUDIO ? 1 : 2};
}

struct Job {
  const Arguments& arguments;
  Rows rows;
  size_t n_failed = 0;
  bool written = true;
};

int take_file(void* user, size_t index, const aasist_file_score* result, const char* message) {
  auto& job = *static_cast<Job*>(user);
  job.rows.file(job.arguments.files[index], *result, message);
  job.written = Rows::flush();
  if (result->status != AASIST_OK) {
    ++job.n_failed;
    std::fprintf(stderr, "error: %s\n", message);
  }
  return job.written ? 0 : 1;
}

int score_files(const aasist_model* model, const Arguments& arguments, const aasist_info& info) {
  if (info.frame_samples > 0) {  // before the header of the rows
    throw BadUsage{arguments.model + " is a file for streams, which scores no whole files. Give - and raw PCM on stdin, or a "
                   "model that was exported without --stream."};
  }
  std::vector<const char*> paths;
  for (const auto& file : arguments.files) paths.push_back(file.c_str());
  Job job{arguments, Rows(arguments.jsonl, false, info.is_calibrated != 0)};
  check(aasist_score_files(model, paths.data(), paths.size(), take_file, &job));
  if (!job.written) return complain("stdout cannot be written to.");
  if (job.n_failed > 0) std::fprintf(stderr, "%zu of %zu files could not be scored.\n", job.n_failed, paths.size());
  return job.n_failed > 0 ? 1 : 0;
}

uint64_t hop_of(const Arguments& arguments, const aasist_info& info) {
  const double rate_hz = info.sample_rate_hz;
  const auto frame = static_cast<uint64_t>(info.frame_samples);
  if (arguments.shared_frames && frame == 0) {
    throw BadUsage{arguments.model + " is no file for streams. Leave --stream out to score each window alone, or write one: "
                   "aasist-deploy export CHECKPOINT --stream -o model.stream.onnx"};
  }
  if (arguments.hop_frames > 0 && frame == 0) {
    throw BadUsage{"--hop-frames is of a file for streams, and " + arguments.model + " is none: give --hop SECONDS."};
  }
  if (arguments.hop_frames > 0) return arguments.hop_frames * frame;
  if (arguments.hop_s == 0 && frame > 0) {
    return frame * static_cast<uint64_t>(std::max(1.0, std::round(kDefaultHopSeconds * rate_hz / static_cast<double>(frame))));
  }
  const double hop_s = arguments.hop_s > 0 ? arguments.hop_s : kDefaultHopSeconds;
  return static_cast<uint64_t>(std::max(1.0, std::round(hop_s * rate_hz)));
}

int score_stream(const aasist_model* model, const Arguments& arguments, const aasist_info& info) {
  const double rate_hz = info.sample_rate_hz;
  const uint64_t hop = hop_of(arguments, info);
  aasist_stream* opened = nullptr;
  check(aasist_stream_open(model, arguments.pcm, arguments.rate_hz, arguments.channels, hop, &opened));
  const std::unique_ptr<aasist_stream, void (*)(aasist_stream*)> stream(opened, aasist_stream_close);
  const Rows rows(arguments.jsonl, true, info.is_calibrated != 0);
  const auto tell = [&] {
    aasist_window_score window;
    while (aasist_stream_next(stream.get(), &window) == 1) {
      double llr = 0;
      double p_spoof = 0;
      if (info.is_calibrated != 0) {
        const auto score = static_cast<double>(window.score);
        check(aasist_llr(model, score, &llr));
        check(aasist_p_spoof(model, score, 0.5, &p_spoof));
      }
      rows.window(window, rate_hz, llr, p_spoof);
    }
    if (Rows::flush()) return;
    complain("stdout cannot be written to.");
    throw Failed{2};
  };
  tell();  // the header
  char bytes[65536];
  for (;;) {
    const ssize_t n = read(STDIN_FILENO, bytes, sizeof bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return complain((std::string("stdin cannot be read: ") + std::strerror(errno) + ".").c_str());
    const aasist_status status = n > 0 ? aasist_stream_push(stream.get(), bytes, static_cast<size_t>(n))
                                       : aasist_stream_finish(stream.get());
    tell();  // also what was scored before an error
    check(status);
    if (n == 0) return 0;
  }
}

int run(int argc, char** argv) {
  const Arguments arguments = parse(argc, argv);
  check(aasist_check_abi(AASIST_ABI_VERSION));
  aasist_model* opened = nullptr;
  check(aasist_open(arguments.model.c_str(), &arguments.options, &opened));
  const std::unique_ptr<aasist_model, void (*)(aasist_model*)> model(opened, aasist_close);
  aasist_info info{};
  check(aasist_model_info(model.get(), &info, sizeof info));
  return arguments.files.front() == "-" ? score_stream(model.get(), arguments, info)
                                        : score_files(model.get(), arguments, info);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const Failed& failed) {
    return failed.exit_code;
  } catch (const BadUsage& usage) {
    return complain(usage.message.c_str());
  } catch (const std::exception& error) {
    return complain(error.what());
  }
}
