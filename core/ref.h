// Intrusive reference counting, and a per-thread free list for the small objects every eager call
// makes and drops (tensors, storages, tape nodes).
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

namespace tandem {

/// Base of what RefPtr holds.
class RefCounted {
 public:
  RefCounted() = default;
  RefCounted(const RefCounted&) = delete;
  RefCounted& operator=(const RefCounted&) = delete;
  virtual ~RefCounted() = default;

  void retain() const noexcept {  // one more owner
    // Nobody else can know an object without references yet: its first one needs no atomic write.
    if (refs_.load(std::memory_order_relaxed) == 0) {
      refs_.store(1, std::memory_order_relaxed);
    } else {
      refs_.fetch_add(1, std::memory_order_relaxed);
    }
  }
  void release() const noexcept {
    // The only owner needs no atomic write: nobody else can be looking.
    if (refs_.load(std::memory_order_acquire) == 1 ||
        refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      delete this;
    }
  }
  std::uint32_t use_count() const noexcept { return refs_.load(std::memory_order_acquire); }

  // A pin is a reference held by a compiled program. An object with nothing but pins has been
  // dropped by everybody else: the program that captured it is out of date.
  void pin() const noexcept {
    retain();
    pins_.fetch_add(1, std::memory_order_relaxed);
  }
  void unpin() const noexcept {
    pins_.fetch_sub(1, std::memory_order_relaxed);
    release();
  }
  bool pinned() const noexcept { return pins_.load(std::memory_order_relaxed) != 0; }
  bool only_pinned() const noexcept {
    return refs_.load(std::memory_order_acquire) == pins_.load(std::memory_order_relaxed);
  }

 private:
  mutable std::atomic<std::uint32_t> refs_{0};
  mutable std::atomic<std::uint32_t> pins_{0};
};

/// A counted reference to a RefCounted object, or null.
template <class T>
class RefPtr {
 public:
  RefPtr() = default;
  RefPtr(std::nullptr_t) {}
  explicit RefPtr(T* p) : p_(p) {
    if (p_) p_->retain();
  }
  RefPtr(const RefPtr& o) : p_(o.p_) {
    if (p_) p_->retain();
  }
  RefPtr(RefPtr&& o) noexcept : p_(std::exchange(o.p_, nullptr)) {}
  template <class U>
  RefPtr(const RefPtr<U>& o) : RefPtr(static_cast<T*>(o.get())) {}
  ~RefPtr() {
    if (p_) p_->release();
  }
  RefPtr& operator=(RefPtr o) noexcept {
    std::swap(p_, o.p_);
    return *this;
  }
  T* get() const { return p_; }
  T* operator->() const { return p_; }
  T& operator*() const { return *p_; }
  explicit operator bool() const { return p_ != nullptr; }
  friend bool operator==(const RefPtr& a, const RefPtr& b) { return a.p_ == b.p_; }

 private:
  T* p_ = nullptr;
};

/// A pinning reference (see RefCounted::pin).
template <class T>
class Pinned {
 public:
  explicit Pinned(T* p) : p_(p) { p_->pin(); }
  Pinned(const Pinned& o) : Pinned(o.p_) {}
  Pinned(Pinned&& o) noexcept : p_(std::exchange(o.p_, nullptr)) {}
  Pinned& operator=(Pinned o) noexcept {
    std::swap(p_, o.p_);
    return *this;
  }
  ~Pinned() {
    if (p_) p_->unpin();
  }
  T* get() const { return p_; }
  T* operator->() const { return p_; }

 private:
  T* p_;
};

/// A new object and the first reference to it.
template <class T, class... A>
RefPtr<T> make_ref(A&&... a) {
  return RefPtr<T>(new T(std::forward<A>(a)...));
}

/// Gives a class its own free list: `class X : public Pooled<X>`. An object freed on another
/// thread joins that thread's list. Off under AddressSanitizer, which must see every free.
template <class T>
class Pooled {
 public:
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  static void* operator new(std::size_t n) {
    List& l = list();
    if (l.head && n == sizeof(T)) {
      Free* f = l.head;
      l.head = f->next;
      --l.count;
      return f;
    }
    return ::operator new(n < sizeof(Free) ? sizeof(Free) : n);
  }
  static void operator delete(void* p, std::size_t n) {
    List& l = list();
    if (l.closed || l.count >= kKeep || n != sizeof(T)) {
      ::operator delete(p);
      return;
    }
    l.head = new (p) Free{l.head};
    ++l.count;
  }

 private:
  static constexpr int kKeep = 4096;
  struct Free {
    Free* next;
  };
  struct List {
    Free* head = nullptr;
    int count = 0;
    bool closed = false;
    ~List() {
      // Objects with static lifetime may still be freed after this: `closed` sends them to the
      // heap. The flag outlives the destructor because the storage of a thread_local does.
      closed = true;
      while (head) ::operator delete(std::exchange(head, head->next));
    }
  };
  static List& list() {
    static thread_local List l;
    return l;
  }
#endif
};

}  // namespace tandem
