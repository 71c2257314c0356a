#include "arguments.h"

#include <getopt.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>

namespace {

constexpr const char* kHelp =
    R"(usage: aasist-score [OPTION]... MODEL FILE...
       aasist-score [OPTION]... MODEL -

Scores audio files with an exported .onnx model: higher means more likely bona fide (human), lower spoofed.
One row a file: path, score, error, seconds; of a calibrated model also llr and p_spoof.

With - in place of files, scores raw PCM from stdin in sliding windows as it arrives, one row a window:
path, start_s, end_s, score; of a calibrated model also llr and p_spoof. Any model of fixed length will do; one
of 'aasist-deploy export --stream' computes what windows share once, for the same scores at less cost.

  --format csv|jsonl   of the rows (csv)
  --threads N          inside an operator (all cores)
  --batch N            windows scored together (1: the least memory)
  --allow-slow         open a model of fp16 or bf16, which a CPU runs slower or not at all
  --pcm TYPE           samples on stdin: u8, s16le, s24le, s32le or f32le (s16le)
  --rate HZ            of stdin (16000)
  --channels N         of stdin, interleaved (1)
  --hop SECONDS        from the start of one window to the start of the next (about 1)
  --hop-frames N       the same in frames of a model for streams, whose hop is a whole number of them
  --stream             refuse a model that is not for streams, rather than to score each window alone
  --version, --help

Exit codes: 0 all scored, 1 some file could not be scored, 2 wrong usage or model, 3 the machine lacks something.

  aasist-score aasist.onnx calls/*.wav > scores.csv
  arecord -q -t raw -f S16_LE -r 16000 -c 1 | aasist-score --stream --format jsonl aasist.stream.onnx -
)";

int32_t whole(const char* option, const char* text, long smallest, long largest) {
  char* end = nullptr;
  errno = 0;
  const long value = std::strtol(text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || value < smallest || value > largest) {
    throw BadUsage{std::string("--") + option + " is " + text + "; it must be a whole number from " +
                   std::to_string(smallest) + " to " + std::to_string(largest) + "."};
  }
  return static_cast<int32_t>(value);
}

double seconds(const char* text) {
  char* end = nullptr;
  const double value = std::strtod(text, &end);
  if (end == text || *end != '\0' || !std::isfinite(value) || value <= 0 || value > 86400) {
    throw BadUsage{std::string("--hop is ") + text + "; it must be a number of seconds above 0."};
  }
  return value;
}

aasist_pcm pcm_of(const std::string& name) {
  static const std::map<std::string, aasist_pcm> known{{"u8", AASIST_PCM_U8},
                                                       {"s16le", AASIST_PCM_S16LE},
                                                       {"s24le", AASIST_PCM_S24LE},
                                                       {"s32le", AASIST_PCM_S32LE},
                                                       {"f32le", AASIST_PCM_F32LE}};
  const auto at = known.find(name);
  if (at == known.end()) throw BadUsage{"--pcm is " + name + "; known are u8, s16le, s24le, s32le and f32le."};
  return at->second;
}

enum Option { kFormat = 256, kThreads, kBatch, kAllowSlow, kPcm, kRate, kChannels, kHop, kHopFrames, kStream, kVersion, kHelpOption };

constexpr option kOptions[] = {{"format", required_argument, nullptr, kFormat},
                               {"threads", required_argument, nullptr, kThreads},
                               {"batch", required_argument, nullptr, kBatch},
                               {"allow-slow", no_argument, nullptr, kAllowSlow},
                               {"pcm", required_argument, nullptr, kPcm},
                               {"rate", required_argument, nullptr, kRate},
                               {"channels", required_argument, nullptr, kChannels},
                               {"hop", required_argument, nullptr, kHop},
                               {"hop-frames", required_argument, nullptr, kHopFrames},
                               {"stream", no_argument, nullptr, kStream},
                               {"version", no_argument, nullptr, kVersion},
                               {"help", no_argument, nullptr, kHelpOption},
                               {nullptr, 0, nullptr, 0}};

}  // namespace

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  aasist_options_init(&arguments.options, sizeof arguments.options);
  arguments.options.max_batch = 1;
  bool of_stream = false;
  bool of_files = false;
  for (int key = 0; (key = getopt_long(argc, argv, "", kOptions, nullptr)) != -1;) {
    switch (key) {
      case kFormat: {
        const std::string format = optarg;
        if (format != "csv" && format != "jsonl") throw BadUsage{"--format is " + format + "; known are csv and jsonl."};
        arguments.jsonl = format == "jsonl";
        break;
      }
      case kThreads:
        arguments.options.threads = whole("threads", optarg, 1, 1024);
        break;
      case kBatch:
        arguments.options.max_batch = whole("batch", optarg, 1, 4096);
        of_files = true;
        break;
      case kAllowSlow:
        arguments.options.allow_slow_precision = 1;
        break;
      case kPcm:
        arguments.pcm = pcm_of(optarg);
        of_stream = true;
        break;
      case kRate:
        arguments.rate_hz = whole("rate", optarg, 1000, 1536000);
        of_stream = true;
        break;
      case kChannels:
        arguments.channels = whole("channels", optarg, 1, 64);
        of_stream = true;
        break;
      case kHop:
        arguments.hop_s = seconds(optarg);
        of_stream = true;
        break;
      case kHopFrames:
        arguments.hop_frames = static_cast<uint64_t>(whole("hop-frames", optarg, 1, 1000000));
        of_stream = true;
        break;
      case kStream:
        arguments.shared_frames = true;
        of_stream = true;
        break;
      case kVersion:
        std::printf("aasist-score %s, ONNX Runtime %s\n", aasist_version(), aasist_runtime_version());
        std::exit(0);
      case kHelpOption:
        std::fputs(kHelp, stdout);
        std::exit(0);
      default:  // getopt has said what it was
        throw BadUsage{"aasist-score --help lists the options."};
    }
  }
  if (argc - optind < 2) throw BadUsage{"a model and at least one file are needed; see aasist-score --help."};
  arguments.model = argv[optind];
  arguments.files.assign(argv + optind + 1, argv + argc);
  const bool stream = arguments.files.front() == "-";
  for (const auto& file : arguments.files) {
    if (file == "-" && arguments.files.size() > 1) throw BadUsage{"- is raw PCM on stdin and goes with no other file."};
  }
  if (of_stream && !stream) {
    throw BadUsage{"--stream, --pcm, --rate, --channels, --hop and --hop-frames are of raw PCM on stdin: give - as the file."};
  }
  if (arguments.hop_s > 0 && arguments.hop_frames > 0) throw BadUsage{"--hop and --hop-frames were both given."};
  if (of_files && stream) throw BadUsage{"--batch is of files; windows of a stream are scored as they come."};
  return arguments;
}
