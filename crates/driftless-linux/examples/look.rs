//! Looks at every clock that this machine has beside its own, and says what each shows. Nothing is set.
//!
//! `cargo run -p driftless-linux --example look [SECONDS]`: with SECONDS, also watches so long for signs of an interruption.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use driftless_core::source::{LookError, Reading};
use driftless_core::time::{RawTime, Seconds, Span, WallTime};
use driftless_linux::clock_set::ClockSet;
use driftless_linux::kmsg::Kmsg;
use driftless_linux::phc::Phc;
use driftless_linux::rtc::{self, Rtc};
use driftless_linux::uevent::Uevents;
use driftless_linux::vmclock::{self, VmClock};
use driftless_linux::{clock, phc_list, poll, vsock};

fn main() {
    let now = clock::now().0;
    println!("wall {} raw {} slept {:?}", now.wall.as_nanos(), now.raw.as_nanos(), clock::slept());
    for info in phc_list::list(Path::new(phc_list::LIST)) {
        println!(
            "{} \"{}\" {:?} trusted {}",
            info.path.display(),
            info.name,
            info.kind,
            info.kind.is_trusted()
        );
        look_at_phc(info);
    }
    look_at_vmclock();
    look_at_rtc();
    println!("vsock: context id {:?}, loopback {}", vsock::local_cid(), vsock::has_loopback());
    if let Some(seconds) = std::env::args().nth(1).and_then(|seconds| seconds.parse().ok()) {
        watch(Span::from_secs(seconds));
    }
}

fn look_at_phc(info: phc_list::PhcInfo) {
    let began = clock::now().0.raw;
    let mut phc = match Phc::open(info) {
        Ok(phc) => phc,
        Err(error) => return println!("  refused: {error}"),
    };
    println!("  opened in {}, read by {}", clock::now().0.raw - began, phc.way());
    for _ in 0..5 {
        let began = clock::now().0.raw;
        let look = phc.look();
        told(&look, began);
        wait(Span::from_millis(200));
    }
}

fn look_at_vmclock() {
    let device = match VmClock::open(Path::new(vmclock::DEVICE)) {
        Ok(device) => device,
        Err(error) => return println!("{}: {error}", vmclock::DEVICE),
    };
    println!("{}: {:?}, notifies {}", vmclock::DEVICE, device.page(), device.notification().is_some());
    let began = clock::now().0.raw;
    told(&device.look(), began);
}

fn look_at_rtc() {
    let path = Path::new(rtc::DEVICE);
    println!("{}: since_epoch {:?}", rtc::DEVICE, rtc::since_epoch(path));
    for _ in 0..2 {
        let clock = match Rtc::open(path) {
            Ok(clock) => clock,
            Err(error) => return println!("  {error}"),
        };
        println!("  driver {}, zone {:?}, now {:?}", clock.driver(), clock.zone(), clock.read());
        let began = clock::now().0.raw;
        let mut watch = clock.watch();
        let look = watch.edge();
        println!("  by interrupt: {}", watch.is_by_interrupt());
        told(&look, began);
    }
}

fn told(look: &Result<Reading, LookError>, began: RawTime) {
    let took = clock::now().0.raw - began;
    match look {
        Ok(reading) => println!(
            "  device - wall {} width {} dispersion {} scale {:?} (took {took})",
            Seconds::from(WallTime::from_nanos(reading.device_ns) - reading.at.wall),
            reading.width,
            reading.dispersion,
            reading.scale,
        ),
        Err(error) => println!("  {error} (took {took})"),
    }
}

fn watch(duration: Span) {
    let mut set = ClockSet::arm().inspect_err(|error| println!("no clock-set timer: {error}")).ok();
    let uevents = Uevents::open().inspect_err(|error| println!("no uevents: {error}")).ok();
    let kmsg = Kmsg::open().inspect_err(|error| println!("no kernel log: {error}")).ok();
    let vmclock = VmClock::open(Path::new(vmclock::DEVICE)).ok();
    let end = clock::now().0.raw + duration;
    while clock::now().0.raw < end {
        let fds: Vec<BorrowedFd<'_>> = (set.iter().map(|timer| timer.as_fd()))
            .chain(uevents.iter().map(|events| events.as_fd()))
            .chain(kmsg.iter().map(|log| log.as_fd()))
            .chain(vmclock.iter().filter_map(VmClock::notification))
            .collect();
        let woken = poll::wait(&fds, Some(Span::from_secs(1)));
        let wall = clock::now().0.wall;
        println!(
            "{}: woken {woken:?} slept {:?} rtc {:?} marks {:?}",
            Seconds::from(wall - WallTime::default()),
            clock::slept(),
            rtc::since_epoch(Path::new(rtc::DEVICE)),
            vmclock.as_ref().map(VmClock::marks),
        );
        if let Some(timer) = &mut set {
            println!("  clock set: {:?}", timer.take());
        }
        while let Some(Ok(Some(event))) = uevents.as_ref().map(Uevents::take) {
            println!("  {event:?}");
        }
        println!("  fork told in the log: {:?}", kmsg.as_ref().map(Kmsg::take_fork));
    }
}

fn wait(span: Span) {
    // Nothing is waited for but the time.
    let _ = poll::wait(&[], Some(span));
}
