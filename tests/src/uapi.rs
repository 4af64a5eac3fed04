// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `docs/uapi.md` promises to a VMM: the order that published programs use, the list of mappings, the features, and
//! an error for whatever the kernel does not know.

use anyhow::{bail, ensure, Result};
use hitless_proto::layout::PAGE;
use hitless_proto::{Answer, Call, Command, Piece};
use rustix::io::Errno;

use crate::outcome::{bad, done, good, plan};
use crate::test::{Bench, End, Test};
use crate::twins::{first_fault, hello, lost};
use hitless_lab::evidence::event::Harm;
use hitless_lab::evidence::phases::{REBUILD, RETRIEVE, SWAP};
use hitless_lab::evidence::verdict::Kind;
use hitless_lab::machine::pace::Rate;
use hitless_lab::machine::profile::Profile;
use hitless_lab::machine::running::{command_line, Machine};
use hitless_lab::play::scene::{Plan, Scene, SETTLE};
use hitless_lab::play::update::{FILES, HWPT_TOKEN, OFF, SESSION};

const PROFILE: &str = "legacy";
/// Frames per second: the ring is not served while many orders are given.
const RATE: u32 = 400;
/// Few frames: each of them burns a whole ring of descriptors in faults.
const SLOW: u32 = 100;

/// Mappings beside the card's memory: more than fit into one page of a record, into one page of the kernel's list, and
/// into one call of the guest.
const PIECES: u64 = 130;
/// From one of them to the next.
const STRIDE: u64 = 8 * PAGE;
/// Pieces in one order.
const AT_A_TIME: usize = 32;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        moved(
            "bind_before_restore",
            "a device bound before its HWPT is restored is attached to it, and loses nothing",
            |_| Ok(()),
            bind_before_restore,
        ),
        Test::new(
            "uapi_machine::bind_before_restore_in_two_iommufds",
            PROFILE,
            "two devices, each bound to its own iommufd and to no other before anything is restored, go on",
            two_iommufds,
        ),
        moved(
            "rebuild_from_the_list",
            "the kernel lists what a restored HWPT maps, and a HWPT made from the list takes its place",
            map_pieces,
            rebuild_from_the_list,
        ),
        Test::new(
            "twin::uapi_machine::rebuild_from_the_list",
            PROFILE,
            "a list with one mapping left out makes a HWPT with which frames are lost",
            rebuild_from_a_part,
        ),
        Test::new(
            "uapi_machine::what_is_not_known_is_refused",
            PROFILE,
            "fields, sizes and tokens that the kernel does not know are refused by errno and change nothing",
            refusals,
        ),
        features("features", "the features are there before anything is preserved", "", true),
        features("features_of_a_kernel_that_is_off", "with hitless=off there is no feature", OFF, false),
    ]
}

/// A step of a test.
type Step = fn(&mut Scene) -> Result<()>;

/// A test of an update: what comes before it, and what follows the retrieval of the files.
fn moved(name: &'static str, about: &'static str, before: Step, after: Step) -> Test {
    let name_of_test = format!("uapi_machine::{name}");
    Test::new(name_of_test, PROFILE, about, move |bench| {
        let mut scene = boot(bench, name, RATE)?;
        let ended = jump(&mut scene, before).and_then(|()| after(&mut scene));
        good(scene.end(ended)?, bench)
    })
}

fn boot(bench: &Bench, name: &str, rate: u32) -> Result<Scene> {
    bench.boot(Plan {
        rate: Rate::AtMost(rate),
        ..plan(name, PROFILE, "")?
    })
}

/// Up to the jump, and the files out of the session.
fn jump(scene: &mut Scene, before: Step) -> Result<()> {
    scene.receive_both()?;
    before(scene)?;
    scene.flow(SETTLE);
    scene.prepare()?;
    scene.mark()?;
    scene.preserve()?;
    scene.jump()?;
    scene.retrieve_files()
}

fn bind_before_restore(scene: &mut Scene) -> Result<()> {
    let card = scene.first.number;
    let from = scene.machine.clock.now();
    scene.bind()?;
    scene.check("the bind")?;
    scene.refused(finish(), Errno::BUSY)?;
    restore(scene)?;
    scene.step(RETRIEVE, from);
    // It is what the device is attached to, and not another HWPT for the same domain.
    let id = hwpt(scene)?;
    refuse(scene, Call::Destroy, &[id], Errno::BUSY)?;
    take_back(scene, Command::Rebuild { card })
}

/// Compaction, the new HWPT by this order, the swap and finish.
fn take_back(scene: &mut Scene, rebuild: Command) -> Result<()> {
    scene.compact()?;
    let from = scene.machine.clock.now();
    scene.order(rebuild)?;
    scene.step(REBUILD, from);
    scene.refused(finish(), Errno::BUSY)?;
    scene.swap()?;
    scene.check("the swap")?;
    // It is destroyed, and its tables are free.
    let [low, high] = words(HWPT_TOKEN);
    refuse(scene, Call::Restore, &[0, low, high], Errno::NOENT)?;
    scene.finish()?;
    scene.check("finish")
}

/// The swap and finish, and only then the restored HWPT is destroyed.
fn take_back_and_destroy_late(scene: &mut Scene) -> Result<()> {
    let card = scene.first.number;
    let [low, high] = words(HWPT_TOKEN);
    let id = hwpt(scene)?;
    let from = scene.machine.clock.now();
    scene.order(Command::Rebuild { card })?;
    let from = scene.step(REBUILD, from);
    scene.order(Command::Swap { card })?;
    scene.flow(SETTLE);
    scene.step(SWAP, from);
    refuse(scene, Call::Restore, &[0, low, high], Errno::EXIST)?;
    let answer = raw(scene, Call::Mappings, &list(id, 0, 0))?;
    ensure!(answer[7] == 1, "after the swap the list is {answer:x?}");
    scene.finish()?;
    refuse(scene, Call::Mappings, &list(id, 0, 0), Errno::NOENT)?;
    scene.order(Command::DestroyOld { card })?;
    refuse(scene, Call::Restore, &[0, low, high], Errno::NOENT)?;
    scene.fill_memory()?;
    scene.check("finish")
}

/// Two cards with an iommufd each, whose HWPTs have one token, in one session.
fn two_iommufds(bench: &Bench) -> Result<End> {
    let mut scene = bench.boot(Plan {
        second_goes_on: true,
        ..plan("two-iommufds", PROFILE, "")?
    })?;
    let ended = play_two(&mut scene);
    let mut outcome = scene.end(ended)?;
    // The second card is preserved here: its frames land, and are meant to. Its first reset is not the first card's.
    let expected = [Kind::Strays, Kind::Harm(Harm::CardReset)];
    outcome.verdict.forgive(|kind| expected.contains(&kind));
    good(outcome, bench)
}

fn play_two(scene: &mut Scene) -> Result<()> {
    let (card, other) = (scene.first.number, scene.second.number);
    let session = || SESSION.to_owned();
    let of_other = FILES.map(|(what, token)| (what, token + 10));
    scene.receive_both()?;
    scene.flow(SETTLE);
    scene.prepare()?;
    scene.mark()?;
    scene.order(Command::Mark {
        card: other,
        token: HWPT_TOKEN,
    })?;
    scene.preserve()?;
    for (what, token) in of_other {
        scene.order(Command::Preserve {
            session: session(),
            card: other,
            what,
            token,
        })?;
    }
    scene.jump()?;
    let from = scene.machine.clock.now();
    scene.order(Command::BindDriver {
        bdf: scene.second.bdf.clone(),
    })?;
    scene.retrieve_files()?;
    for (what, token) in of_other {
        scene.order(Command::Retrieve {
            session: session(),
            card: other,
            what,
            token,
        })?;
    }
    // An iommufd of the session, and not the device's.
    for (card, other) in [(card, other), (other, card)] {
        scene.refused(Command::BindDeviceTo { card, other }, Errno::PERM)?;
    }
    scene.bind()?;
    scene.order(Command::BindDevice { card: other })?;
    scene.order(Command::Resume { card: other })?;
    for card in [card, other] {
        let token = HWPT_TOKEN;
        scene.order(Command::RestoreHwpt { card, token })?;
    }
    let from = scene.step(RETRIEVE, from);
    for card in [card, other] {
        scene.order(Command::Rebuild { card })?;
    }
    scene.step(REBUILD, from);
    scene.swap()?;
    scene.check("the first card's swap")?;
    scene.refused(finish(), Errno::BUSY)?;
    scene.order(Command::Swap { card: other })?;
    scene.order(Command::DestroyOld { card: other })?;
    scene.finish()?;
    let before = scene.machine.guest.count(other)?;
    scene.flow(3 * SETTLE);
    let after = scene.machine.guest.count(other)?;
    // Its ring is too short for the jump, so it may have missed frames; none is damaged, and they come again.
    ensure!(
        after.corrupt == 0 && after.received > before.received,
        "after finish the second card has {after:?}, and had {before:?}"
    );
    scene.check("finish")
}

/// What is mapped beside the card's memory `main`: pages of it once more, from odd ones on, of one to eight pages, so
/// that there are gaps and neighbours, every fourth for reading only; and one below.
fn pieces(main: &Piece) -> Vec<Piece> {
    let piece = |number: u64| Piece {
        iova: main.iova + (1 << 30) + number * STRIDE,
        length: (1 + number % 8) * PAGE,
        offset: (1 + 2 * number) * PAGE,
        token: 0,
        readable: true,
        writeable: number % 4 != 0,
    };
    let below = Piece {
        iova: main.iova - STRIDE,
        ..piece(1)
    };
    std::iter::once(below)
        .chain((1..PIECES).map(piece))
        .collect()
}

/// All mappings, as the next kernel has to list them.
fn expected(main: Piece) -> Vec<Piece> {
    let (_, token) = FILES[0];
    let mut all = pieces(&main);
    all.push(main);
    all.sort_by_key(|piece| piece.iova);
    all.iter().map(|piece| Piece { token, ..*piece }).collect()
}

pub(crate) fn map_pieces(scene: &mut Scene) -> Result<()> {
    let card = scene.first.number;
    for some in pieces(&scene.memory()).chunks(AT_A_TIME) {
        let pieces = some.to_vec();
        scene.order(Command::MapPieces { card, pieces })?;
    }
    scene.check("the mappings")
}

/// The kernel's list is what was mapped.
fn compare(scene: &mut Scene) -> Result<()> {
    let card = scene.first.number;
    let answer = scene.order(Command::Mappings { card })?;
    let Answer::Mappings { pieces: listed } = answer else {
        bail!("the guest answers {:?} to Mappings", answer);
    };
    let mapped = expected(scene.memory());
    let wrong = listed
        .iter()
        .zip(&mapped)
        .find(|(listed, mapped)| listed != mapped);
    if let Some((listed, mapped)) = wrong {
        bail!("the kernel lists {listed:x?} where {mapped:x?} was mapped");
    }
    ensure!(
        listed.len() == mapped.len(),
        "the kernel lists {} mappings, and {} were made",
        listed.len(),
        mapped.len()
    );
    Ok(())
}

fn rebuild_from_the_list(scene: &mut Scene) -> Result<()> {
    let card = scene.first.number;
    restore(scene)?;
    scene.bind()?;
    compare(scene)?;
    let without = None;
    take_back(scene, Command::RebuildFromList { card, without })
}

fn rebuild_from_a_part(bench: &Bench) -> Result<End> {
    let mut scene = boot(bench, "rebuild-from-a-part", SLOW)?;
    let ended = play_a_part(&mut scene);
    let mut outcome = scene.end(ended)?;
    let after = hello(&outcome);
    if after.is_none() || !lost(&outcome) || first_fault(&outcome) <= after {
        let words = outcome.verdict.words();
        return bad(
            &outcome,
            &format!("expected: frames lost to faults after the swap; seen: {words}"),
        );
    }
    done(&mut outcome, bench);
    Ok(End::Passed)
}

fn play_a_part(scene: &mut Scene) -> Result<()> {
    let card = scene.first.number;
    jump(scene, map_pieces)?;
    restore(scene)?;
    scene.bind()?;
    compare(scene)?;
    scene.check("the bind")?;
    let without = Some(scene.memory().iova);
    scene.order(Command::RebuildFromList { card, without })?;
    scene.order(Command::Swap { card })?;
    scene.flow(3 * SETTLE);
    Ok(())
}

fn refusals(bench: &Bench) -> Result<End> {
    let mut scene = boot(bench, "refusals", RATE)?;
    let ended = play_refusals(&mut scene);
    good(scene.end(ended)?, bench)
}

fn play_refusals(scene: &mut Scene) -> Result<()> {
    scene.receive_both()?;
    scene.flow(SETTLE);
    in_the_old_kernel(scene)?;
    scene.check("what the old kernel refuses")?;
    scene.load()?;
    scene.preserve()?;
    scene.jump()?;
    let from = scene.machine.clock.now();
    scene.retrieve_files()?;
    in_the_new_kernel(scene)?;
    scene.bind()?;
    scene.step(RETRIEVE, from);
    of_the_list(scene)?;
    scene.check("what the new kernel refuses")?;
    take_back_and_destroy_late(scene)
}

/// The words of a token, the low one first.
const fn words(number: u64) -> [u32; 2] {
    // CAST: the halves are what is wanted.
    [number as u32, (number >> 32) as u32]
}

/// Leaves the HWPT marked.
fn in_the_old_kernel(scene: &mut Scene) -> Result<()> {
    /// IOMMU_OPTION_LIVEUPDATE, and the operations of an option.
    const LIVEUPDATE: u32 = 0x100;
    const SET: u32 = 0;
    const GET: u32 = 1;
    let id = hwpt(scene)?;
    let [low, high] = words(HWPT_TOKEN);

    for (fields, errno) in [
        // Flags, reserved, and what comes after them.
        (&[id, low, high, 1, 0][..], Errno::OPNOTSUPP),
        (&[id, low, high, 0, 1], Errno::OPNOTSUPP),
        (&[id, low, high, 0, 0, 1], Errno::TOOBIG),
        // A structure without a whole token.
        (&[id, low], Errno::INVAL),
        (&[id + 1000, low, high], Errno::NOENT),
    ] {
        refuse(scene, Call::Mark, fields, errno)?;
    }
    refuse(scene, Call::Restore, &[0, low, high, 0, 0], Errno::NOTTY)?;
    refuse(scene, Call::Mappings, &list(id, 0, 0), Errno::NOENT)?;

    let read = raw(scene, Call::Option, &[LIVEUPDATE, GET, 0, 0, 0])?;
    ensure!(
        read == [LIVEUPDATE, GET, 0, 7, 0],
        "the features are {read:x?}"
    );
    refuse(
        scene,
        Call::Option,
        &[LIVEUPDATE, SET, 0, 7, 0],
        Errno::OPNOTSUPP,
    )?;
    refuse(
        scene,
        Call::Option,
        &[LIVEUPDATE, GET, 1, 0, 0],
        Errno::OPNOTSUPP,
    )?;

    // The published structure has 16 bytes. Nothing above has marked the HWPT: it would be busy.
    raw(scene, Call::Mark, &[id, low, high])?;
    refuse(scene, Call::Mark, &[id, low, high], Errno::ADDRINUSE)?;
    // A later, longer structure is understood as long as nothing is said in it.
    refuse(
        scene,
        Call::Mark,
        &[id, low + 1, high, 0, 0, 0, 0],
        Errno::BUSY,
    )
}

/// Leaves the HWPT restored.
fn in_the_new_kernel(scene: &mut Scene) -> Result<()> {
    let [low, high] = words(HWPT_TOKEN);
    for (fields, errno) in [
        (&[0, low, high, 1, 0][..], Errno::OPNOTSUPP),
        (&[0, low, high, 0, 1], Errno::OPNOTSUPP),
        (&[0, low, high, 0, 0, 1], Errno::TOOBIG),
        (&[0, low], Errno::INVAL),
        (&[0, low + 1, high, 0, 0], Errno::NOENT),
    ] {
        refuse(scene, Call::Restore, fields, errno)?;
    }
    // The shortest structure. Nothing above has restored the HWPT: it would be there already.
    raw(scene, Call::Restore, &[0, low, high])?;
    refuse(scene, Call::Restore, &[0, low, high, 0, 0], Errno::EXIST)?;
    // Without its device it can be destroyed, which leaves the tables to the next restore.
    let id = hwpt(scene)?;
    raw(scene, Call::Destroy, &[id])?;
    raw(scene, Call::Restore, &[0, low, high, 0, 0])?;
    let id = hwpt(scene)?;
    refuse(scene, Call::Mark, &[id, low, high], Errno::NOENT)
}

/// The size of a mapping in the list.
const ENTRY_SIZE: u32 = 40;

/// The fields of IOMMU_HWPT_LIVEUPDATE_MAPPINGS. The guest makes its pointer null.
fn list(hwpt: u32, count: u32, index: u64) -> [u32; 11] {
    let [low, high] = words(index);
    [0, hwpt, count, low, high, 0, 0, 0, 0, ENTRY_SIZE, 0]
}

fn of_the_list(scene: &mut Scene) -> Result<()> {
    let id = hwpt(scene)?;
    let mut flags = list(id, 0, 0);
    flags[0] = 1;
    refuse(scene, Call::Mappings, &flags, Errno::OPNOTSUPP)?;
    let mut reserved = list(id, 0, 0);
    reserved[10] = 1;
    refuse(scene, Call::Mappings, &reserved, Errno::OPNOTSUPP)?;
    for size in [0, ENTRY_SIZE - 8, ENTRY_SIZE + 8] {
        let mut fields = list(id, 0, 0);
        fields[9] = size;
        refuse(scene, Call::Mappings, &fields, Errno::INVAL)?;
    }
    refuse(scene, Call::Mappings, &list(id, 0, 0)[..9], Errno::INVAL)?;
    refuse(scene, Call::Mappings, &list(id + 1000, 0, 0), Errno::NOENT)?;
    refuse(scene, Call::Mappings, &list(id, 1, 0), Errno::FAULT)?;
    // There is one mapping, and nothing after it.
    for (count, index) in [(0, 0), (5, 1), (5, 1 << 32), (5, u64::MAX)] {
        let mut expected = list(id, 0, index);
        expected[7] = 1;
        let answer = raw(scene, Call::Mappings, &list(id, count, index))?;
        ensure!(
            answer == expected,
            "room for {count} from mapping {index:#x} on is answered with {answer:x?}"
        );
    }
    Ok(())
}

fn restore(scene: &mut Scene) -> Result<()> {
    let card = scene.first.number;
    let token = HWPT_TOKEN;
    scene.order(Command::RestoreHwpt { card, token })?;
    Ok(())
}

fn finish() -> Command {
    Command::Finish {
        session: SESSION.to_owned(),
    }
}

/// The id of the HWPT that the card is attached to.
fn hwpt(scene: &mut Scene) -> Result<u32> {
    let card = scene.first.number;
    match scene.order(Command::HwptOf { card })? {
        Answer::Hwpt { id } => Ok(id),
        other => bail!("the guest answers {other:?} to HwptOf"),
    }
}

/// Makes a call field by field; returns what it leaves in its structure.
fn raw(scene: &mut Scene, call: Call, fields: &[u32]) -> Result<Vec<u32>> {
    match scene.order(command(scene, call, fields))? {
        Answer::Words { words } => Ok(words),
        other => bail!("the guest answers {other:?} to {call:?}"),
    }
}

fn refuse(scene: &mut Scene, call: Call, fields: &[u32], errno: Errno) -> Result<()> {
    scene.refused(command(scene, call, fields), errno)
}

fn command(scene: &Scene, call: Call, fields: &[u32]) -> Command {
    Command::Raw {
        card: scene.first.number,
        call,
        fields: fields.to_vec(),
    }
}

/// A test of what a kernel says that was just booted.
fn features(name: &'static str, about: &'static str, words: &'static str, on: bool) -> Test {
    let name_of_test = format!("uapi_machine::{name}");
    Test::new(name_of_test, PROFILE, about, move |bench| {
        let profile = Profile::load(PROFILE)?;
        let line = command_line(&profile, words);
        let mut machine = Machine::start(name, &profile, &bench.parts, &line)?;
        machine.wait_hello()?;
        let said = machine.guest.order(Command::Features)?;
        let mut directory = machine.into_directory();
        let expected = Answer::Features {
            preserve: on,
            bind_first: on,
            mappings: on,
        };
        ensure!(
            said == expected,
            "the kernel says {said:?}; the logs are in {}",
            directory.path().display()
        );
        if !bench.keep {
            directory.discard();
        }
        Ok(End::Passed)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_are_of_every_kind_and_do_not_overlap() {
        let main = Piece {
            iova: 1 << 36,
            length: 10 << 20,
            offset: 0,
            token: 0,
            readable: true,
            writeable: true,
        };
        let all = expected(main);
        let pairs = || all.iter().zip(&all[1..]);
        let end = |piece: &Piece| piece.iova + piece.length;
        assert!(pairs().all(|(one, next)| end(one) <= next.iova));
        assert!(pairs().any(|(one, next)| end(one) == next.iova));
        assert!(pairs().any(|(one, next)| end(one) < next.iova));
        assert!(all.iter().any(|piece| !piece.writeable));
        assert!(all
            .iter()
            .all(|piece| piece.offset + piece.length <= main.length));
        assert!(all[0].iova < main.iova && all.len() > 2 * 63);
    }
}
