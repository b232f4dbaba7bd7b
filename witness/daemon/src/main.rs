//! The program `palisade-witness`.

fn main() -> std::process::ExitCode {
    palisade_witness::main()
}
