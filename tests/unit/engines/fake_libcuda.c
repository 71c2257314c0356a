/* A fake libcuda.so.1 for tests: one "GPU" whose memory is host memory.
 *
 * pycuda, cuda-python and ctypes call it as they call NVIDIA's driver, so the tests of device memory run
 * without a GPU. Work is done when it is queued; only what is captured into a graph waits for a launch.
 * It refuses what a driver refuses and wrong code would do: a call without a current context, an unknown
 * or freed handle, a copy beyond an allocation.
 *
 * Environment: FAKE_CUDA_MEMORY_MIB, all of the memory (default 64).
 *
 * Source of names, signatures and numbers: cuda.h.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, INVALID_CONTEXT = 201, INVALID_HANDLE = 400,
       NOT_FOUND = 500, CAPTURE_INVALIDATED = 901 };
enum { NAME_BYTES = 64, DEPTH = 64, SLOTS = 4096, OPERATIONS = 1024 };

typedef enum { FREE, MEMORY, PINNED, STREAM, EVENT, GRAPH, READY } Kind;
typedef struct { void *to; const void *from; size_t size; } Copy;
typedef struct {
  Kind kind;
  char *data; /* of memory; of anything else an address that is its handle */
  size_t size;
  int capturing, n_copies;
  Copy *copies;
  double time_ms;
} Thing;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Thing things[SLOTS];
static int retained;
static char context_handle;
static __thread void *stack[DEPTH];
static __thread int depth;

static size_t total(void) {
  const char *text = getenv("FAKE_CUDA_MEMORY_MIB");
  return (size_t)(text ? atoi(text) : 64) << 20;
}
static size_t used(void) {
  size_t sum = 0;
  for (int i = 0; i < SLOTS; i++) sum += things[i].kind == MEMORY ? things[i].size : 0;
  return sum;
}
static Thing *find(const void *handle, Kind kind) {
  for (int i = 0; i < SLOTS; i++)
    if (things[i].kind == kind && things[i].data == handle) return &things[i];
  return NULL;
}
static int within(const void *address, size_t size, Kind kind) {
  for (int i = 0; i < SLOTS; i++) {
    const char *p = address;
    if (things[i].kind == kind && p >= things[i].data && p + size <= things[i].data + things[i].size) return 1;
  }
  return 0;
}
static Thing *make(Kind kind, size_t size) {
  for (int i = 0; i < SLOTS; i++)
    if (things[i].kind == FREE) {
      Thing thing = {.kind = kind, .size = size};
      if (posix_memalign((void **)&thing.data, 256, size ? size : 1)) return NULL;
      memset(thing.data, 0xA5, size); /* fresh device memory holds anything */
      things[i] = thing;
      return &things[i];
    }
  return NULL;
}
static int drop(const void *handle, Kind kind) {
  Thing *thing = find(handle, kind);
  if (!thing) return INVALID_HANDLE;
  memset(thing->data, 0xDD, thing->size);
  free(thing->data);
  free(thing->copies);
  thing->kind = FREE;
  thing->copies = NULL;
  return OK;
}
#define GUARD(...)                                              \
  if (!depth || !stack[depth - 1]) return INVALID_CONTEXT;      \
  pthread_mutex_lock(&lock);                                    \
  int code = OK;                                                \
  __VA_ARGS__;                                                  \
  pthread_mutex_unlock(&lock);                                  \
  return code;

int cuInit(unsigned flags) { return flags ? INVALID_VALUE : OK; }
int cuDriverGetVersion(int *version) { *version = 13000; return OK; }
int cuGetErrorName(int code, const char **name) {
  *name = code == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : code == INVALID_CONTEXT ? "CUDA_ERROR_INVALID_CONTEXT"
        : code == INVALID_HANDLE ? "CUDA_ERROR_INVALID_HANDLE" : code == INVALID_VALUE ? "CUDA_ERROR_INVALID_VALUE"
        : code == CAPTURE_INVALIDATED ? "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED" : "CUDA_ERROR_UNKNOWN";
  return OK;
}
int cuGetErrorString(int code, const char **text) { return cuGetErrorName(code, text); }
int cuDeviceGetCount(int *count) { *count = 1; return OK; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ordinal ? INVALID_DEVICE : OK; }
int cuDeviceGetName(char *name, int size, int device) { (void)device; snprintf(name, size, "Fake GPU"); return OK; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  (void)device;
  *value = attribute == 75 ? 9 : 0; /* compute capability 9.0 */
  return OK;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { (void)device; *bytes = total(); return OK; }
int cuDevicePrimaryCtxRetain(void **context, int device) {
  if (device) return INVALID_DEVICE;
  *context = &context_handle;
  __sync_fetch_and_add(&retained, 1);
  return OK;
}
int cuDevicePrimaryCtxRelease_v2(int device) {
  (void)device;
  return __sync_sub_and_fetch(&retained, 1) < 0 ? INVALID_CONTEXT : OK;
}
int cuCtxPushCurrent_v2(void *context) {
  if (context != &context_handle || retained < 1) return INVALID_CONTEXT;
  if (depth == DEPTH) return INVALID_VALUE;
  stack[depth++] = context;
  return OK;
}
int cuCtxPopCurrent_v2(void **context) {
  if (!depth) return INVALID_CONTEXT;
  void *top = stack[--depth];
  if (context) *context = top;
  return OK;
}
int cuCtxGetCurrent(void **context) { *context = depth ? stack[depth - 1] : NULL; return OK; }
int cuMemGetInfo_v2(size_t *left, size_t *all) { GUARD(*all = total(); *left = total() - used()) }
int cuMemAlloc_v2(void **address, size_t size) {
  GUARD({
    Thing *thing = !size ? NULL : used() + size > total() ? NULL : make(MEMORY, size);
    if (thing) *address = thing->data;
    else code = size ? OUT_OF_MEMORY : INVALID_VALUE;
  })
}
int cuMemFree_v2(void *address) { GUARD(code = drop(address, MEMORY)) }
int cuMemHostAlloc(void **address, size_t size, unsigned flags) {
  (void)flags;
  GUARD({
    Thing *thing = size > total() ? NULL : make(PINNED, size);
    if (thing) *address = thing->data;
    else code = OUT_OF_MEMORY;
  })
}
int cuMemFreeHost(void *address) { GUARD(code = drop(address, PINNED)) }
static int copy(void *to, const void *from, size_t size, void *stream) {
  Thing *on = find(stream, STREAM);
  if (!on) return INVALID_HANDLE;
  if (!on->capturing) memcpy(to, from, size);
  else if (on->n_copies == OPERATIONS) return CAPTURE_INVALIDATED;
  else on->copies[on->n_copies++] = (Copy){to, from, size};
  return OK;
}
int cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t size, void *stream) {
  GUARD(code = within(to, size, MEMORY) ? copy(to, from, size, stream) : INVALID_VALUE)
}
int cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t size, void *stream) {
  GUARD(code = within(from, size, MEMORY) ? copy(to, from, size, stream) : INVALID_VALUE)
}
int cuStreamCreate(void **stream, unsigned flags) {
  if (flags != 1) return INVALID_VALUE; /* the code under test wants streams that do not block */
  GUARD({ Thing *t = make(STREAM, 1); if (t) *stream = t->data; else code = OUT_OF_MEMORY; })
}
int cuStreamDestroy_v2(void *stream) { GUARD(code = drop(stream, STREAM)) }
int cuStreamSynchronize(void *stream) {
  GUARD({
    Thing *on = find(stream, STREAM);
    code = stream && !on ? INVALID_HANDLE : on && on->capturing ? CAPTURE_INVALIDATED : OK;
  })
}
int cuStreamWaitEvent(void *stream, void *event, unsigned flags) {
  GUARD(code = (stream && !find(stream, STREAM)) || flags ? INVALID_HANDLE : find(event, EVENT) ? OK : INVALID_HANDLE)
}
int cuEventCreate(void **event, unsigned flags) {
  GUARD({ Thing *t = make(EVENT, flags); if (t) *event = t->data; else code = OUT_OF_MEMORY; })
}
int cuEventDestroy_v2(void *event) { GUARD(code = drop(event, EVENT)) }
int cuEventRecord(void *event, void *stream) {
  GUARD({
    Thing *thing = find(event, EVENT);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (!thing || (stream && !find(stream, STREAM))) code = INVALID_HANDLE;
    else thing->time_ms = now.tv_sec * 1e3 + now.tv_nsec / 1e6;
  })
}
int cuEventSynchronize(void *event) { GUARD(code = find(event, EVENT) ? OK : INVALID_HANDLE) }
int cuEventElapsedTime(float *ms, void *start, void *end) {
  GUARD({
    Thing *a = find(start, EVENT), *b = find(end, EVENT);
    if (!a || !b || a->size == 2 || b->size == 2) code = INVALID_HANDLE; /* 2: made without timing */
    else *ms = (float)(b->time_ms - a->time_ms);
  })
}
int cuEventElapsedTime_v2(float *ms, void *start, void *end) { return cuEventElapsedTime(ms, start, end); }
int cuStreamBeginCapture_v2(void *stream, int mode) {
  GUARD({
    Thing *on = find(stream, STREAM);
    if (!on || on->capturing || mode != 1) code = INVALID_HANDLE;
    else { on->capturing = 1; on->n_copies = 0; on->copies = calloc(OPERATIONS, sizeof(Copy)); }
  })
}
int cuStreamEndCapture(void *stream, void **graph) {
  GUARD({
    Thing *on = find(stream, STREAM), *made = on && on->capturing ? make(GRAPH, 1) : NULL;
    if (!made) code = INVALID_HANDLE;
    else {
      made->copies = on->copies;
      made->n_copies = on->n_copies;
      on->copies = NULL;
      on->capturing = 0;
      *graph = made->data;
    }
  })
}
int cuGraphInstantiateWithFlags(void **ready, void *graph, unsigned long long flags) {
  (void)flags;
  GUARD({
    Thing *from = find(graph, GRAPH), *made = from ? make(READY, 1) : NULL;
    if (!made) code = INVALID_HANDLE;
    else {
      made->n_copies = from->n_copies;
      made->copies = malloc(OPERATIONS * sizeof(Copy));
      memcpy(made->copies, from->copies, OPERATIONS * sizeof(Copy));
      *ready = made->data;
    }
  })
}
int cuGraphDestroy(void *graph) { GUARD(code = drop(graph, GRAPH)) }
int cuGraphExecDestroy(void *ready) { GUARD(code = drop(ready, READY)) }
int cuGraphLaunch(void *ready, void *stream) {
  GUARD({
    Thing *graph = find(ready, READY);
    if (!graph || !find(stream, STREAM)) code = INVALID_HANDLE;
    else for (int i = 0; i < graph->n_copies; i++) memcpy(graph->copies[i].to, graph->copies[i].from, graph->copies[i].size);
  })
}
/* How cuda-python finds functions: the newest version of a name. */
int cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags, int *status) {
  (void)version, (void)flags;
  static const char *suffixes[] = {"_v2", ""};
  *function = NULL;
  for (int i = 0; i < 2 && !*function; i++) {
    char name[NAME_BYTES * 2];
    snprintf(name, sizeof name, "%s%s", symbol, suffixes[i]);
    *function = dlsym(RTLD_DEFAULT, name);
  }
  if (!*function && !strcmp(symbol, "cuGraphInstantiate")) *function = (void *)cuGraphInstantiateWithFlags;
  if (status) *status = *function ? 0 : 1;
  return *function ? OK : NOT_FOUND;
}
