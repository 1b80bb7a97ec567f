//! Makes an ext4 disk of an image and says how long it took:
//! `cargo run --release --example image2ext4 -- REFERENCE OUT SIZE` (size in bytes, or with a
//! suffix M or G).

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use boxlite::image::Resolver;

fn size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'M' => (&text[..text.len() - 1], 20),
        b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [reference, out, bytes] = &args[..] else {
        eprintln!("usage: image2ext4 REFERENCE OUT SIZE[M|G]");
        return ExitCode::FAILURE;
    };
    let Some(bytes) = size(bytes) else {
        eprintln!("{bytes:?} is not a size");
        return ExitCode::FAILURE;
    };
    let start = Instant::now();
    let made = Resolver::new(std::env::temp_dir()).resolve(reference).and_then(|image| {
        println!("resolved   {:8.3} s", start.elapsed().as_secs_f64());
        image.write_disk(Path::new(out), bytes, &mut |_| ControlFlow::Continue(()))
    });
    match made {
        Ok(summary) => {
            println!("disk       {:8.3} s", start.elapsed().as_secs_f64());
            println!("{summary:?}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    }
}
