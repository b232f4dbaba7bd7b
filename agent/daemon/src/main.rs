//! The program `palisade`.

fn main() -> std::process::ExitCode {
    palisade::main()
}
