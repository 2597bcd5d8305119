//! The program's own code in memory. Much of what a start runs is not run again, and the kernel counts it as the program's
//! for as long as nothing else wants the memory. One place with unsafe code: the standard library does not offer the call
//! that changes this (madvise(2)).

use std::ops::Range;
use std::{fs, io};

/// Lets go of all of it. What is run again comes back by itself, from the kernel's memory or from the file.
///
/// # Errors
/// When the kernel does not say where it is, or refuses; nothing has changed then.
pub fn let_go() -> io::Result<()> {
    let program = fs::read_link("/proc/self/exe")?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    places(&maps, &program.to_string_lossy()).try_for_each(|place| {
        #[expect(
            unsafe_code,
            reason = "the kernel has just named this as a mapping of the program's file that cannot be written: its bytes are those of the file whenever they are read"
        )]
        let refused = unsafe {
            let start = std::ptr::without_provenance_mut(place.start);
            libc::madvise(start, place.len(), libc::MADV_DONTNEED)
        };
        match refused {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    })
}

/// Where the code of `program` is, by the kernel's list (proc_pid_maps(5)). Not what else is read only: of that the loader
/// has written some.
fn places(maps: &str, program: &str) -> impl Iterator<Item = Range<usize>> {
    maps.lines().filter_map(move |line| {
        let (place, rest) = line.split_once(' ')?;
        let (access, _) = rest.split_once(' ')?;
        let is_code = access == "r-xp" && rest.ends_with(program);
        let (start, end) = place.split_once('-').filter(|_| is_code)?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        Some(number(start)?..number(end)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_run_of_the_program_itself_is_let_go() {
        let maps = "\
00400000-005c1000 r--p 00000000 fe:00 5448693                            /usr/bin/belvo-gateway
005c1000-009a3000 r-xp 001c1000 fe:00 5448693                            /usr/bin/belvo-gateway
009a3000-009c5000 r--p 005a3000 fe:00 5448693                            /usr/bin/belvo-gateway
70a00000-70a21000 rw-p 00000000 00:00 0 
70a26000-70b7b000 r-xp 00026000 fe:00 1184                               /usr/lib/libc.so.6
7fff1000-7fff3000 r-xp 00000000 00:00 0                                  [vdso]
";
        let mut found = places(maps, "/usr/bin/belvo-gateway");
        assert_eq!(found.next(), Some(0x005c_1000..0x009a_3000));
        assert_eq!(found.next(), None);
        assert_eq!(places(maps, "/usr/bin/another").count(), 0);
    }

    #[test]
    fn the_program_goes_on_without_its_code_in_memory() {
        let resident = || {
            let status = fs::read_to_string("/proc/self/status").expect("a status");
            let of_files = status
                .lines()
                .find_map(|line| line.strip_prefix("RssFile:"))
                .and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
            of_files.expect("a number of KiB")
        };
        let before = resident();
        let_go().expect("the kernel's consent");
        let after = resident();
        assert!(after < before, "{after} KiB of {before}");
    }
}
