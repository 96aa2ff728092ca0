// Streams, events and graphs of the emulated runtime.
#include <algorithm>
#include <cstdio>

#include "cuda/emulation/world.h"

using namespace tandem::cuda::emulation;

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned) {
  TANDEM_CALL();
  *s = new CUstream_st;
  (*s)->device = current_device;
  world().streams.insert(*s);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* s, unsigned flags, int) {
  return cudaStreamCreateWithFlags(s, flags);
}
cudaError_t cudaStreamDestroy(cudaStream_t s) {
  TANDEM_CALL();
  if (world().streams.erase(s) == 0) return result(cudaErrorInvalidResourceHandle);
  try {
    drain(s);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "emulated device: %s\n", e.what());
  }
  delete s;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
  TANDEM_CALL();
  s = real(s);
  if (s->capture) {
    s->capture->broken = true;
    return result(cudaErrorStreamCaptureUnsupported);
  }
  drain(s);
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t s) {
  TANDEM_CALL();
  s = real(s);
  if (s->work.empty()) return cudaSuccess;
  run_one(s);  // whoever asks again and again shall get there
  return cudaErrorNotReady;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
  TANDEM_CALL();
  s = real(s);
  if (e->capture) {
    if (s->capture && s->capture != e->capture) return result(cudaErrorStreamCaptureIsolation);
    if (!s->capture) {
      s->capture = e->capture;  // it joins
      s->capture->streams.insert(s);
      s->last.clear();
    }
    for (std::size_t n : e->nodes) {
      if (std::find(s->last.begin(), s->last.end(), n) == s->last.end()) s->last.push_back(n);
    }
    return cudaSuccess;
  }
  if (!e->marker) return cudaSuccess;  // nothing was recorded: nothing to wait for
  if (s->capture) return result(cudaErrorStreamCaptureIsolation);
  put(s, {[m = e->marker] { run_until(m); }, Kind::other});
  return cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t fn, void* data) {
  TANDEM_CALL();
  put(real(s), {[=] { fn(data); }, Kind::host});
  return cudaSuccess;
}

// --- events

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned flags) {
  TANDEM_CALL();
  *e = new CUevent_st;
  (*e)->device = current_device;
  (*e)->timing = !(flags & cudaEventDisableTiming);
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t e) {
  TANDEM_CALL();
  delete e;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
  TANDEM_CALL();
  s = real(s);
  if (s->device != e->device) return result(cudaErrorInvalidResourceHandle);
  e->capture = s->capture;
  e->nodes = s->last;
  e->marker = nullptr;
  if (s->capture) return cudaSuccess;
  e->marker = std::make_shared<Marker>();
  e->marker->stream = s;
  put(s, {[m = e->marker] {
            m->at = Clock::now();
            m->done = true;
          },
          Kind::other});
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t e) {
  TANDEM_CALL();
  if (e->capture) return result(cudaErrorCapturedEvent);
  if (!e->marker || e->marker->done) return cudaSuccess;
  run_one(e->marker->stream);  // whoever asks again and again shall get there
  return cudaErrorNotReady;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
  TANDEM_CALL();
  if (e->capture) return result(cudaErrorCapturedEvent);
  if (e->marker) run_until(e->marker);
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t a, cudaEvent_t b) {
  TANDEM_CALL();
  if (!a->marker || !b->marker || !a->timing || !b->timing) {
    return result(cudaErrorInvalidResourceHandle);
  }
  if (!a->marker->done || !b->marker->done) return result(cudaErrorNotReady);
  *ms = std::chrono::duration<float, std::milli>(b->marker->at - a->marker->at).count();
  return cudaSuccess;
}

// --- graphs

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  TANDEM_CALL();
  std::swap(*mode, thread_mode);
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode) {
  TANDEM_CALL();
  if (s == nullptr || s->capture) return result(cudaErrorIllegalState);
  s->capture = std::make_shared<Capture>();
  s->capture->mode = mode;
  s->capture->streams.insert(s);
  s->last.clear();
  thread_capture = s->capture;
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus* status) {
  TANDEM_CALL();
  s = real(s);
  *status = !s->capture          ? cudaStreamCaptureStatusNone
            : s->capture->broken ? cudaStreamCaptureStatusInvalidated
                                 : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t* graph) {
  TANDEM_CALL();
  *graph = nullptr;
  if (!s->capture) return result(cudaErrorIllegalState);
  const std::shared_ptr<Capture> c = s->capture;
  if (thread_capture == c) thread_capture = nullptr;
  // All that other streams put in must have been waited for.
  std::set<std::size_t> seen(s->last.begin(), s->last.end());
  for (std::size_t n = c->ops.size(); n-- > 0;) {
    if (!seen.contains(n)) continue;
    seen.insert(c->ops[n].after.begin(), c->ops[n].after.end());
  }
  bool joined = true;
  for (cudaStream_t x : c->streams) {
    for (std::size_t n : x->last) joined = joined && seen.contains(n);
  }
  for (cudaStream_t x : c->streams) {
    if (!world().streams.contains(x)) continue;
    x->capture = nullptr;
    x->last.clear();
  }
  if (c->broken) return result(cudaErrorStreamCaptureInvalidated);
  if (!joined) return result(cudaErrorStreamCaptureUnjoined);
  *graph = new CUgraph_st{std::move(c->ops)};
  return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t g, cudaGraphNode_t* nodes, std::size_t* n) {
  TANDEM_CALL();
  if (nodes) return result(cudaErrorNotSupported);
  *n = g->ops.size();
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t g, unsigned long long) {
  TANDEM_CALL();
  *exec = new CUgraphExec_st{std::make_shared<const Ops>(g->ops)};
  return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
  TANDEM_CALL();
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s) {
  TANDEM_CALL();
  put(real(s), {[ops = exec->ops] {
                  // Any order that the edges allow is right; the latest that may run goes first.
                  std::vector<std::size_t> waits(ops->size());
                  std::vector<std::vector<std::size_t>> next(ops->size());
                  std::set<std::size_t> ready;
                  for (std::size_t n = 0; n < ops->size(); ++n) {
                    waits[n] = (*ops)[n].after.size();
                    for (std::size_t k : (*ops)[n].after) next[k].push_back(n);
                    if (waits[n] == 0) ready.insert(n);
                  }
                  while (!ready.empty()) {
                    const std::size_t n = *ready.rbegin();
                    ready.erase(n);
                    (*ops)[n].run();
                    for (std::size_t k : next[n]) {
                      if (--waits[k] == 0) ready.insert(k);
                    }
                  }
                },
                Kind::other});
  return cudaSuccess;
}
cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t g,
                                cudaGraphExecUpdateResultInfo* info) {
  TANDEM_CALL();
  bool same = exec->ops->size() == g->ops.size();
  for (std::size_t n = 0; same && n < g->ops.size(); ++n) {
    // Another kernel in a node's place is taken over.
    same = (*exec->ops)[n].kind == g->ops[n].kind && (*exec->ops)[n].after == g->ops[n].after;
  }
  *info = {};
  info->result = same ? cudaGraphExecUpdateSuccess : cudaGraphExecUpdateErrorTopologyChanged;
  if (!same) return result(cudaErrorGraphExecUpdateFailure);
  exec->ops = std::make_shared<const Ops>(g->ops);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t g) {
  TANDEM_CALL();
  delete g;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t e) {
  TANDEM_CALL();
  delete e;
  return cudaSuccess;
}

}  // extern "C"
