//! One file of an ISO 9660 volume, found by its name: what a config drive is made of (ECMA-119; the Joliet extension for names in lower case).
//!
//! Everything is bounded: the volume is somebody else's.

use std::io::{self, Read, Seek, SeekFrom};

const SECTOR: u64 = 2_048;
/// The first descriptor's sector, and how many of them are looked at.
const FIRST_DESCRIPTOR: u64 = 16;
const DESCRIPTORS_MAX: u64 = 16;
const PRIMARY: u8 = 1;
/// Joliet's names are UCS-2, big-endian; its descriptor tells so by one of these escapes.
const SUPPLEMENTARY: u8 = 2;
const JOLIET: [&[u8]; 3] = [b"%/@", b"%/C", b"%/E"];
/// Larger folders and files are refused.
const EXTENT_MAX: u64 = 256 * 1_024;
/// Where a descriptor holds its volume's name, escapes, and the root folder's record.
const LABEL: core::ops::Range<usize> = 40..72;
const ESCAPES: core::ops::Range<usize> = 88..91;
const ROOT: core::ops::Range<usize> = 156..190;

/// A volume: which names it is read by, and its root.
pub(super) struct Volume<R> {
    device: R,
    label: String,
    is_joliet: bool,
    root: Extent,
}

/// Where a file or folder lies.
#[derive(Debug, Clone, Copy)]
struct Extent {
    sector: u32,
    length: u32,
    is_folder: bool,
}

impl<R: Read + Seek> Volume<R> {
    /// Reads the descriptors.
    ///
    /// # Errors
    /// What the system says; `InvalidData` where it is no such volume.
    pub(super) fn open(mut device: R) -> io::Result<Self> {
        let mut best: Option<(bool, Extent, String)> = None;
        for sector in FIRST_DESCRIPTOR..FIRST_DESCRIPTOR + DESCRIPTORS_MAX {
            let descriptor = sectors(&mut device, sector, SECTOR)?;
            if descriptor.get(1..6) != Some(b"CD001") {
                break;
            }
            let is_joliet = descriptor.get(ESCAPES).is_some_and(|escapes| JOLIET.contains(&escapes));
            let kind = descriptor.first().copied().unwrap_or_default();
            let is_wanted = kind == PRIMARY || (kind == SUPPLEMENTARY && is_joliet);
            let root =
                descriptor.get(ROOT).and_then(|record| record_at(record, false)).map(|(_, extent)| extent);
            if let Some(root) = root.filter(|_| is_wanted) {
                // Its label is read from the first, plain descriptor.
                let told = best.take().map(|(.., label)| label);
                let label = told.unwrap_or_else(|| text(descriptor.get(LABEL).unwrap_or_default(), false));
                best = Some((kind == SUPPLEMENTARY, root, label.trim_end().to_owned()));
            }
        }
        let (is_joliet, root, label) = best.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { device, label, is_joliet, root })
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// The file at `path`, whose parts are compared without regard to case.
    ///
    /// # Errors
    /// `NotFound`, `InvalidData` where it is too large, or what the system says.
    pub(super) fn read(&mut self, path: &str) -> io::Result<Vec<u8>> {
        let mut at = self.root;
        for part in path.split('/') {
            at = self.entry(at, part)?;
        }
        if at.is_folder {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.extent(at)
    }

    fn entry(&mut self, folder: Extent, name: &str) -> io::Result<Extent> {
        let octets = self.extent(folder)?;
        // A record never crosses a sector's end.
        for sector in octets.chunks(SECTOR.try_into().unwrap_or(usize::MAX)) {
            let mut rest = sector;
            while let Some((found, extent)) = record_at(rest, self.is_joliet) {
                if found.split(';').next().is_some_and(|found| found.eq_ignore_ascii_case(name)) {
                    return Ok(extent);
                }
                rest = rest.get(usize::from(rest.first().copied().unwrap_or_default())..).unwrap_or_default();
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    fn extent(&mut self, extent: Extent) -> io::Result<Vec<u8>> {
        sectors(&mut self.device, extent.sector.into(), extent.length.into())
    }
}

fn sectors<R: Read + Seek>(device: &mut R, sector: u64, length: u64) -> io::Result<Vec<u8>> {
    if length > EXTENT_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    device.seek(SeekFrom::Start(sector * SECTOR))?;
    let mut octets = Vec::new();
    let got = device.take(length).read_to_end(&mut octets)?;
    if got as u64 == length { Ok(octets) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// The directory record that `octets` begin with (ECMA-119, 9.1).
fn record_at(octets: &[u8], is_joliet: bool) -> Option<(String, Extent)> {
    let length = usize::from(*octets.first()?);
    let record = octets.get(..length).filter(|record| record.len() > 33)?;
    let number = |at: usize| Some(u32::from_le_bytes(*record.get(at..)?.first_chunk::<4>()?));
    let name_length = usize::from(record[32]);
    let name = text(record.get(33..33 + name_length)?, is_joliet);
    Some((name, Extent { sector: number(2)?, length: number(10)?, is_folder: record[25] & 2 != 0 }))
}

fn text(octets: &[u8], is_joliet: bool) -> String {
    if !is_joliet {
        return String::from_utf8_lossy(octets).into_owned();
    }
    let units: Vec<u16> = octets.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    String::from_utf16_lossy(&units)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Cursor;
    use std::path::Path;

    fn fixture() -> Vec<u8> {
        // The empty rest of the image is left out.
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/discovery/config-drive.iso");
        let mut octets = Vec::new();
        File::open(file).unwrap().read_to_end(&mut octets).unwrap();
        octets
    }

    #[test]
    fn a_real_config_drive_is_read() {
        let mut volume = Volume::open(Cursor::new(fixture())).unwrap();
        assert_eq!((volume.label(), volume.is_joliet), ("config-2", true));
        let text = volume.read("openstack/latest/vendor_data.json").unwrap();
        assert!(text.starts_with(b"{\"cloud-init\""), "{}", String::from_utf8_lossy(&text));
        for missing in ["openstack/latest", "openstack/oldest/x", "nothing"] {
            assert_eq!(volume.read(missing).unwrap_err().kind(), io::ErrorKind::NotFound);
        }
    }

    #[test]
    fn a_volume_that_is_cut_or_spoilt_is_an_error_and_no_more() {
        let whole = fixture();
        for length in (0..whole.len()).step_by(1_000) {
            if let Ok(mut volume) = Volume::open(Cursor::new(&whole[..length])) {
                let _ = volume.read("openstack/latest/vendor_data.json");
            }
        }
        for at in 32_768..whole.len().min(80_000) {
            let mut spoilt = whole.clone();
            spoilt[at] ^= 0xff;
            if let Ok(mut volume) = Volume::open(Cursor::new(&spoilt)) {
                let _ = volume.read("openstack/latest/vendor_data.json");
            }
        }
    }
}
