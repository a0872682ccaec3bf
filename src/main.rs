//! The `pixart` binary: hands over to [`pixart::cli`].

use pixart::engine::ReserveAllocator;

#[global_allocator]
static ALLOCATOR: ReserveAllocator = ReserveAllocator;

fn main() {
    pixart::cli::run()
}
