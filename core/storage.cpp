#include "core/storage.h"

#include "core/backend.h"

namespace tandem {

RefPtr<Storage> Storage::allocate(std::size_t bytes, Device device) {
  Allocator& a = device.is_cpu() ? cpu_allocator() : backend(device).allocator(device.index);
  return RefPtr<Storage>(new Storage(a.allocate(bytes), bytes, device, &a));
}

RefPtr<Storage> Storage::borrow(void* data, std::size_t bytes, Device device,
                                RefPtr<RefCounted> owner) {
  RefPtr<Storage> s(new Storage(data, bytes, device, nullptr));
  s->owner_ = std::move(owner);
  return s;
}

RefPtr<Storage> Storage::symbolic(std::size_t bytes, Device device, RefPtr<RefCounted> trace,
                                  RefPtr<Storage> stands_for) {
  RefPtr<Storage> s(new Storage(nullptr, bytes, device, nullptr));
  s->owner_ = std::move(trace);
  s->symbolic_ = true;
  s->stands_for_ = std::move(stands_for);
  return s;
}

Storage::~Storage() {
  if (allocator_) allocator_->deallocate(data_, bytes_);
}

}  // namespace tandem
