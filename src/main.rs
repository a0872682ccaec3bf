//! The `pixart` binary: hands over to [`pixart::cli`].

fn main() {
    pixart::cli::run()
}
