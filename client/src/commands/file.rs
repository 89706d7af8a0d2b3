//! `trefoil file`: files that contacts offer each other.
//!
//! A name that somebody else has chosen never leaves the directory that the person means, and nothing that is there is
//! ever overwritten.

use std::{
    fs::{self, File as Disk, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use data_encoding::{BASE64, HEXLOWER};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use trefoil_protocol::{
    crypto::blake3,
    limits::{FILE_BYTES, FILE_NAME},
};

use super::{Ended, Output, Usage, ask, history::bytes as size, output::table, visible};
use crate::{
    cli::FileWhat,
    control::{Answer, Event, File, FileState, Letter, Request, caller::Caller},
};

pub(super) async fn run(what: FileWhat, caller: &mut Caller, out: &mut Output<'_>) -> anyhow::Result<Ended> {
    match what {
        FileWhat::List => {
            let files = ask(caller, Request::Files, files).await?;
            let words = match files.as_slice() {
                [] => "no files".to_owned(),
                files => table(&files.iter().map(row).collect::<Vec<_>>()),
            };
            out.answer(&Answer::Files(files), |_| words)?;
        }
        FileWhat::Refuse { name, file } => {
            let file = find(caller, &name, &file).await?;
            let request = Request::Want { contact: file.contact, file: file.id, wanted: false };
            show(&ask(caller, request, one).await?, out)?;
        }
        FileWhat::Accept { name, file, to } => {
            let file = find(caller, &name, &file).await?;
            accept(caller, out, file, to).await?;
        }
        FileWhat::Send { name, path, shown, wait } => {
            let (shown, content) = offered(&path, shown)?;
            offer(caller, out, Request::Offer { contact: name, name: shown, bytes: BASE64.encode(&content) }, wait)
                .await?;
        }
    }
    Ok(Ended::Done)
}

/// What is offered, and by which name.
fn offered(path: &Path, shown: Option<String>) -> anyhow::Result<(String, Vec<u8>)> {
    let own_name = || path.file_name().and_then(|name| name.to_str()).filter(|_| path != Path::new(STDIN));
    let name = shown.or_else(|| own_name().map(str::to_owned));
    let name = name.ok_or_else(|| Usage("what should it be called? pass --as NAME".to_owned()))?;
    check_name(&name).map_err(|error| Usage(format!("{error}: pass --as NAME")))?;
    let content = match path == Path::new(STDIN) {
        true => read(io::stdin().lock()),
        false => Disk::open(path).map_err(Into::into).and_then(read),
    };
    Ok((name, content.with_context(|| format!("cannot send {}", path.display()))?))
}

fn read(input: impl Read) -> anyhow::Result<Vec<u8>> {
    let mut content = Vec::new();
    input.take(u64::from(FILE_BYTES) + 1).read_to_end(&mut content)?;
    ensure!(content.len() <= FILE_BYTES as usize, "it is too large: at most {}", size(FILE_BYTES));
    Ok(content)
}

async fn offer(caller: &mut Caller, out: &mut Output<'_>, request: Request, wait: bool) -> anyhow::Result<()> {
    if wait {
        caller.call(Request::Follow).await?;
    }
    let letter: Letter = ask(caller, request, |answer| match answer {
        Answer::Letter(letter) => Some(letter),
        _ => None,
    })
    .await?;
    if !wait {
        let words = format!("offered to {}: trefoil file list shows how it goes on", visible(&letter.contact));
        return Ok(out.answer(&Answer::Letter(letter), |_| words)?);
    }
    let file = by_id(caller, &letter.contact, &letter.id).await?;
    let file = progress(caller, out, file).await?;
    show(&file, out)?;
    ensure!(file.state == FileState::Whole, "{}", state(&file));
    Ok(())
}

async fn accept(caller: &mut Caller, out: &mut Output<'_>, file: File, to: Option<PathBuf>) -> anyhow::Result<()> {
    let path = destination(&file.name, to)?; // before hours of waiting
    caller.call(Request::Follow).await?;
    let file = match file.state {
        FileState::Whole => by_id(caller, &file.contact, &file.id).await?,
        _ => ask(caller, Request::Want { contact: file.contact, file: file.id, wanted: true }, one).await?,
    };
    let file = progress(caller, out, file).await?;
    ensure!(file.state == FileState::Whole, "{}", state(&file));
    let request = Request::Bytes { contact: file.contact.clone(), file: file.id.clone() };
    let coded =
        ask(caller, request, |answer| if let Answer::Bytes(bytes) = answer { Some(bytes) } else { None }).await?;
    let content = BASE64.decode(coded.as_bytes()).context("the running trefoil sent something else than a file")?;
    let is_it = HEXLOWER.encode(&blake3(&[&content])) == file.blake3 && content.len() == file.size as usize;
    ensure!(is_it, "the file is not what was offered: nothing was saved");
    save(&path, &content)?;
    let words = format!("saved as {}", visible(&path.display().to_string()));
    let saved = Request::Saved { contact: file.contact.clone(), file: file.id.clone() };
    out.answer(&Answer::File(file), |_| words)?;
    Ok(ask(caller, saved, nothing).await?) // the profile keeps no second one
}

/// Shows how much is there until nothing more comes.
async fn progress(caller: &mut Caller, out: &mut Output<'_>, mut file: File) -> anyhow::Result<File> {
    let target = match out.is_terminal && !out.is_json() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(Some(file.pieces.into()), target);
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} pieces  {msg}");
    bar.set_style(style.context("the bar's form is wrong")?);
    bar.set_message(visible(&file.name));
    while matches!(file.state, FileState::Offered | FileState::Wanted) {
        bar.set_position(file.done.into());
        file = match caller.event().await? {
            Event::File(now) if now.id == file.id && now.contact == file.contact => now,
            Event::Missed(_) => by_id(caller, &file.contact, &file.id).await?,
            _ => continue,
        };
    }
    bar.finish_and_clear();
    Ok(file)
}

/// The one that is meant by its name, or by the beginning of its id.
async fn find(caller: &mut Caller, contact: &str, file: &str) -> anyhow::Result<File> {
    let files = ask(caller, Request::Files, files).await?;
    let theirs = files.into_iter().filter(|found| found.contact == contact && !found.mine);
    let fits = |found: &File| found.name == file || visible(&found.name) == file || found.id.starts_with(file);
    let mut found: Vec<_> = theirs.filter(fits).collect();
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => bail!("{contact} offers no file {file:?}: `trefoil file list` shows what there is"),
        several => {
            bail!("{several} files of {contact} could be meant by {file:?}: give the id, from `trefoil file list`")
        }
    }
}

async fn by_id(caller: &mut Caller, contact: &str, id: &str) -> anyhow::Result<File> {
    let files = ask(caller, Request::Files, files).await?;
    let found = files.into_iter().find(|file| file.id == id && file.contact == contact);
    found.context("the file is gone: its letter was removed meanwhile")
}

/// Where a file of this name goes: a file that is not there yet, in a directory that is.
fn destination(name: &str, to: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let path = match to {
        Some(path) if !path.is_dir() => path,
        directory => {
            check_name(name).context("pass --to FILE")?;
            directory.unwrap_or_default().join(name)
        }
    };
    let is_there = fs::symlink_metadata(&path).is_ok();
    ensure!(!is_there, "{} is there already, and is not overwritten: pass --to FILE", path.display());
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    ensure!(directory.is_none_or(Path::is_dir), "there is no directory for {}", path.display());
    Ok(path)
}

/// All of it or nothing: a name that is taken meanwhile is not touched.
fn save(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = file.as_mut().map_err(|error| anyhow::anyhow!("cannot save {}: {error}", path.display()))?;
    file.write_all(content).and_then(|()| file.sync_all()).or_else(|error| {
        let _ = fs::remove_file(path); // half of it would look like all of it
        Err(error).with_context(|| format!("cannot save {}", path.display()))
    })
}

/// A name that is one file's name, and looks like what it is.
fn check_name(name: &str) -> anyhow::Result<()> {
    let is_one = !name.is_empty() && !name.contains(['/', '\\']) && !name.starts_with('.');
    let shown = visible(name);
    ensure!(name.len() <= FILE_NAME, "the name has more than {FILE_NAME} bytes");
    ensure!(is_one && shown == name, "{shown:?} is no name that a file should have");
    Ok(())
}

fn row(file: &File) -> [String; 5] {
    let way = if file.mine { "to" } else { "from" };
    let id = file.id.chars().take(8).collect();
    [id, format!("{way} {}", visible(&file.contact)), size(file.size), state(file), visible(&file.name)]
}

fn state(file: &File) -> String {
    match file.state {
        FileState::Offered => "offered".to_owned(),
        FileState::Wanted => format!("{} of {} pieces", file.done, file.pieces),
        FileState::Refused => "refused".to_owned(),
        FileState::Whole => "complete".to_owned(),
        FileState::Wrong => "not what was offered".to_owned(),
        FileState::Lost => "expired on its way".to_owned(),
    }
}

fn show(file: &File, out: &mut Output<'_>) -> io::Result<()> {
    out.answer(&Answer::File(file.clone()), |_| format!("{}: {}", visible(&file.name), state(file)))
}

fn files(answer: Answer) -> Option<Vec<File>> {
    if let Answer::Files(files) = answer { Some(files) } else { None }
}

fn nothing(answer: Answer) -> Option<()> {
    (answer == Answer::Nothing {}).then_some(())
}

fn one(answer: Answer) -> Option<File> {
    if let Answer::File(file) = answer { Some(file) } else { None }
}

/// Standard input instead of a file.
const STDIN: &str = "-";

#[cfg(test)]
mod tests;
