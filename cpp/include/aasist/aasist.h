/* libaasist: scores speech for spoofing with a model file that aasist-deploy exported.
 *
 * A score is higher for bona fide speech, as everywhere in aasist-deploy, and equals Python's for the
 * same file. Plain C, and no C++ exception leaves the library.
 *
 * Every function that can fail returns an aasist_status; what went wrong, and what to do about it,
 * is then in aasist_message() and aasist_fix() of the calling thread.
 *
 * Threads: an aasist_model may be used by any number of threads at once. An aasist_stream belongs to
 * one thread at a time. Closing an object while another thread uses it is an error of the caller.
 */
#ifndef AASIST_AASIST_H
#define AASIST_AASIST_H

#include <stddef.h>
#include <stdint.h>

#define AASIST_VERSION "0.1.0"
/* Grows when a program that was compiled against an older header would break; 1 so far. */
#define AASIST_ABI_VERSION 1

#if defined(_WIN32)
#define AASIST_API
#else
#define AASIST_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The classes of errors, as in Python's aasist_deploy.errors. */
typedef enum aasist_status {
  AASIST_OK = 0,
  AASIST_USAGE = 1,       /* UsageError: a null pointer, an option that cannot be */
  AASIST_MODEL_FILE = 2,  /* ModelFileError: no model, damaged, altered, no contract */
  AASIST_AUDIO = 3,       /* AudioError: cannot be decoded, or holds no usable samples */
  AASIST_SHAPE = 4,       /* ShapeError: waves that do not fit the model's contract */
  AASIST_ENVIRONMENT = 5, /* EnvironmentLacks: the runtime is too old, memory is out */
  AASIST_INTERNAL = 6     /* a fault of the library or of the runtime */
} aasist_status;

typedef struct aasist_model aasist_model;
typedef struct aasist_stream aasist_stream;

/* Version of the library that was loaded, such as "0.1.0"; static. */
AASIST_API const char* aasist_version(void);
/* ABI of the library that was loaded; compare with AASIST_ABI_VERSION, or call aasist_check_abi. */
AASIST_API int aasist_abi_version(void);
/* AASIST_ENVIRONMENT unless the loaded library has the ABI of `header`, e.g. AASIST_ABI_VERSION. */
AASIST_API aasist_status aasist_check_abi(int header);
/* Version of ONNX Runtime that was loaded; static. */
AASIST_API const char* aasist_runtime_version(void);

/* What the last failed call of this thread had to say; "" before any. Valid until the next call that
 * fails on the same thread. UTF-8 but for file names, which are given back as they came. */
AASIST_API const char* aasist_message(void);
/* What to do about it; "" where the message says it all. */
AASIST_API const char* aasist_fix(void);
/* Name of a status, such as "ModelFileError"; "unknown" for other numbers. Static. */
AASIST_API const char* aasist_status_name(int32_t status);

/* ---- models ---------------------------------------------------------------------------------- */

/* Fill with aasist_options_init, then change what shall differ. */
typedef struct aasist_options {
  size_t size; /* of this struct, as the caller was compiled with it */
  /* Threads inside an operator; 0: all cores that this process may use. */
  int32_t threads;
  /* Larger batches are run in pieces of this size; 0: 16. */
  int32_t max_batch;
  /* Not 0: open a model of lower precision, which a CPU computes slower than fp32 or not at all. */
  int32_t allow_slow_precision;
} aasist_options;

AASIST_API aasist_status aasist_options_init(aasist_options* options, size_t size);

/* Opens an exported .onnx file: reads its contract, checks the hash of its graph, and gives the bytes
 * that were checked to ONNX Runtime. A .plan file is opened with the .json beside it by TensorRT, on the GPU that is
 * current, where the library was built with it (AASIST_ENVIRONMENT elsewhere). `options` may be NULL. On failure
 * *model is NULL. */
AASIST_API aasist_status aasist_open(const char* path, const aasist_options* options, aasist_model** model);
/* The same for a file in memory, which may be freed afterwards. */
AASIST_API aasist_status aasist_open_bytes(const void* bytes, size_t n_bytes, const aasist_options* options,
                                           aasist_model** model);
/* NULL is fine. */
AASIST_API void aasist_close(aasist_model* model);

/* What a model takes and gives; strings live as long as the model. */
typedef struct aasist_info {
  size_t size;              /* set by aasist_model_info to what it filled in */
  const char* architecture; /* e.g. "AASIST" */
  const char* score;        /* "logit of bona fide" or "log-probability of bona fide" */
  const char* precision;    /* "fp32", "fp16", "bf16" or "int8" */
  const char* topk_method;  /* "topk", "rank", or "" without graph pooling */
  const char* graph_sha256;
  const char* checkpoint_sha256;
  const char* contract_json; /* the whole contract as one JSON object */
  int32_t sample_rate_hz;
  int32_t is_calibrated; /* not 0: aasist_llr and aasist_p_spoof work */
  int64_t n_samples;     /* of a wave; 0 when any length from min_samples to max_samples is taken */
  int64_t min_samples;
  int64_t max_samples; /* 0 when nothing limits it */
  int64_t smallest_batch;
  int64_t largest_batch; /* 0 when any works */
  int64_t frame_samples; /* of a file for streams: windows start at multiples of it; 0 for all others */
} aasist_info;

/* `size` is sizeof(aasist_info) of the caller. */
AASIST_API aasist_status aasist_model_info(const aasist_model* model, aasist_info* info, size_t size);

/* Value of a decision threshold on the raw score, by its name in the contract, such as "eer".
 * AASIST_USAGE where there is none of that name; the message lists those that there are. */
AASIST_API aasist_status aasist_threshold(const aasist_model* model, const char* name, double* value);

/* ---- scores ---------------------------------------------------------------------------------- */

/* Scores `n_waves` waves of `n_samples` float samples each, one after the other in memory, in [-1, 1] at
 * the model's rate. Lengths must fit the contract: see aasist_window. `scores` gets n_waves values. */
AASIST_API aasist_status aasist_score(const aasist_model* model, const float* waves, size_t n_waves,
                                      size_t n_samples, float* scores);

/* How many samples of a clip of `n_samples` are scored: the contract's window, or for a variable-length
 * model min_samples to max_samples of them. 0 where model is NULL or n_samples is 0. */
AASIST_API size_t aasist_window_samples(const aasist_model* model, size_t n_samples);
/* Writes the part of a clip that is scored: its first samples, or the clip repeated until it is long
 * enough. `capacity` must be at least aasist_window_samples(model, n_samples). */
AASIST_API aasist_status aasist_window(const aasist_model* model, const float* wave, size_t n_samples,
                                       float* window, size_t capacity);

/* What became of one file. */
typedef struct aasist_file_score {
  aasist_status status; /* of this file; what follows is set only where it is AASIST_OK */
  float score;
  double seconds;         /* duration of the file */
  double llr;             /* NaN unless the model is calibrated */
  double p_spoof;         /* at a prior of 0.5; NaN unless the model is calibrated */
  int32_t source_rate_hz; /* of the file; it was resampled where this is not the model's */
  int32_t source_channels;
  int32_t tiled; /* the clip was shorter than the window and was repeated */
  int32_t cut;   /* the clip was longer than the window; its start was scored */
} aasist_file_score;

/* Scores the window of one WAV, FLAC or other file that libsndfile decodes. Any rate and number of
 * channels: their mean is taken, and the rate is changed as in Python. */
AASIST_API aasist_status aasist_score_file(const aasist_model* model, const char* path, aasist_file_score* result);

/* Told what became of each file, in the order of the paths: its result, and where its status is not
 * AASIST_OK the message ("" otherwise). Returns 0 to go on, anything else to end. */
typedef int (*aasist_on_file)(void* user, size_t index, const aasist_file_score* result, const char* message);

/* Scores many files, windows of equal length in batches of max_batch, while the next batch is decoded. A file
 * that cannot be scored says so to `on_file`, which the calling thread calls; the call itself then succeeds. */
AASIST_API aasist_status aasist_score_files(const aasist_model* model, const char* const* paths, size_t n_paths,
                                            aasist_on_file on_file, void* user);

/* Log-likelihood ratio of a score in nats, positive for bona fide, in double precision: the contract's
 * scale * score + offset. AASIST_MODEL_FILE where the model is not calibrated. */
AASIST_API aasist_status aasist_llr(const aasist_model* model, double score, double* llr);
/* Probability of spoof of a score. `prior_spoof`: how likely spoof is before it is heard, in (0, 1). */
AASIST_API aasist_status aasist_p_spoof(const aasist_model* model, double score, double prior_spoof, double* p_spoof);

/* ---- audio ----------------------------------------------------------------------------------- */

/* Decodes a file to mono float samples at `sample_rate_hz`, no more than `max_samples` of them (0: all).
 * *wave is freed with aasist_free. */
AASIST_API aasist_status aasist_read_audio(const char* path, int32_t sample_rate_hz, size_t max_samples, float** wave,
                                           size_t* n_samples);
AASIST_API void aasist_free(float* wave);

/* ---- streams --------------------------------------------------------------------------------- */

/* Types of raw PCM samples, little-endian and interleaved. */
typedef enum aasist_pcm {
  AASIST_PCM_U8 = 0,
  AASIST_PCM_S16LE = 1,
  AASIST_PCM_S24LE = 2,
  AASIST_PCM_S32LE = 3,
  AASIST_PCM_F32LE = 4
} aasist_pcm;

typedef struct aasist_window_score {
  uint64_t index;   /* which window of the stream, from 0 */
  uint64_t start;   /* its first sample, at the model's rate */
  uint64_t end;     /* one past its last; the stream's own end where it was shorter than a window */
  float score;
} aasist_window_score;

/* A stream of samples that is scored in windows, `hop_samples` (at the model's rate) from one start to the next.
 *
 * Any model of fixed length will do: each window is then a pass of its own, at any hop. A file written by
 * `aasist-deploy export --stream` computes what windows share once, and gives the same scores for a fraction of
 * the work; its hop is a multiple of the model's `frame_samples`. Such a file is for streams alone: aasist_score
 * and the functions of files refuse it with AASIST_MODEL_FILE.
 *
 * `format` is one of aasist_pcm. Memory is bounded by the window, not by the stream. The model must outlive the
 * stream, and may have several. AASIST_USAGE for a rate, number of channels or hop that cannot be. */
AASIST_API aasist_status aasist_stream_open(const aasist_model* model, int32_t format, int32_t rate_hz,
                                            int32_t channels, uint64_t hop_samples, aasist_stream** stream);
/* Takes the next bytes, any number of them: a sample may come in parts. A window is there, for aasist_stream_next,
 * when the push that brings its last sample returns, and does not depend on how the bytes were cut.
 * AASIST_AUDIO for NaN or infinite samples; after any error but AASIST_USAGE for a NULL the stream is at its end, and
 * what was scored before can still be taken. */
AASIST_API aasist_status aasist_stream_push(aasist_stream* stream, const void* bytes, size_t n_bytes);
/* Ends the stream: one shorter than a window is tiled and scored, as files are. AASIST_AUDIO where it held
 * no samples. */
AASIST_API aasist_status aasist_stream_finish(aasist_stream* stream);
/* Takes the next finished window: 1 when there was one, 0 when there is none, -1 on a null pointer. Of a calibrated
 * model, aasist_llr and aasist_p_spoof make its score a log-likelihood ratio and a probability. */
AASIST_API int aasist_stream_next(aasist_stream* stream, aasist_window_score* window);
/* NULL is fine. */
AASIST_API void aasist_stream_close(aasist_stream* stream);

#ifdef __cplusplus
}
#endif
#endif
