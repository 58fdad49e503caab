//! From the command line to serving: sockets, privileges, configuration, store, in this order.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use olb_store::Store;
use olb_sys::crash::crash_point;
use olb_sys::file::read_trusted;
use olb_sys::harden;
use olb_sys::socket::{listen_stream, local_path, named_listeners};
use tokio::task::{LocalSet, spawn_local};

use crate::admission::Door;
use crate::args::Args;
use crate::config::{CONFIG_BYTES_MAX, Config};
use crate::execd::Execd;
use crate::front::Front;
use crate::{rules, serve, settle};

/// Everybody may connect; who is on no list is sent away before a byte is read.
const SOCKET_MODE: u32 = 0o666;

/// What a front needs to serve.
#[derive(Debug)]
pub struct Setup {
    /// Where `exec.sock` is.
    pub runtime_dir: PathBuf,
    /// Where `broker.db` is, mode 0700.
    pub state_dir: PathBuf,
    /// The configuration.
    pub config: Config,
    /// `request.sock`, listening.
    pub request: UnixListener,
    /// `review.sock`, listening.
    pub review: UnixListener,
}

/// Prepares the process: takes or binds the sockets, drops privileges for good, reads the
/// configuration. Before this returns, no thread may be started.
///
/// # Errors
/// One sentence about what is wrong with the host, the command line or the configuration.
pub fn prepare(args: &Args) -> anyhow::Result<Setup> {
    harden::private_umask();
    harden::raise_nofile().context("the limit of open files cannot be raised")?;
    let own = harden::effective_uid();
    ensure!(
        own != 0 || args.drop_to.is_some(),
        "olb-brokerd does not serve as root; start it as its own account or with --drop-to UID:GID"
    );
    let (request, review) = sockets(&args.runtime_dir)?;
    if let Some((uid, gid)) = args.drop_to {
        ensure!(own == 0 || own == uid, "only root can become another account with --drop-to");
        if own == 0 {
            harden::drop_privileges(uid, gid).context("privileges cannot be dropped")?;
        }
    }
    harden::no_dumps().context("core dumps cannot be switched off")?;
    let config = match &args.config {
        Some(path) => read_config(path)?,
        None => Config::default(),
    };
    Ok(Setup {
        runtime_dir: args.runtime_dir.clone(),
        state_dir: args.state_dir.clone(),
        config,
        request,
        review,
    })
}

/// A configuration of root's or of one's own, and nobody else's.
fn read_config(path: &Path) -> anyhow::Result<Config> {
    let read = |owner| read_trusted(path, CONFIG_BYTES_MAX, owner);
    let bytes = read(0).or_else(|_| read(harden::effective_uid()))?;
    Ok(Config::parse(&bytes)?)
}

/// The two sockets: from systemd by their names, or bound here.
fn sockets(runtime_dir: &Path) -> anyhow::Result<(UnixListener, UnixListener)> {
    let paths = [runtime_dir.join("request.sock"), runtime_dir.join("review.sock")];
    let passed = named_listeners()?;
    let [request, review] = if passed.is_empty() {
        let bind = |path: &Path| {
            listen_stream(path, SOCKET_MODE)
                .with_context(|| format!("{} cannot be bound", path.display()))
        };
        [bind(&paths[0])?, bind(&paths[1])?]
    } else {
        named(passed, &paths)?
    };
    for listener in [&request, &review] {
        listener.set_nonblocking(true).context("a socket cannot be made non-blocking")?;
    }
    Ok((request, review))
}

/// Takes each passed socket by its name, and only if it is bound where that name says.
fn named(
    passed: Vec<(String, OwnedFd)>,
    paths: &[PathBuf; 2],
) -> anyhow::Result<[UnixListener; 2]> {
    let mut request = None;
    let mut review = None;
    for (name, socket) in passed {
        let (place, path) = match name.as_str() {
            "request" => (&mut request, &paths[0]),
            "review" => (&mut review, &paths[1]),
            _ => bail!("systemd passed a socket named {name:?}; the names are request and review"),
        };
        ensure!(
            local_path(&socket).as_ref() == Some(path),
            "the socket named {name} is not {}; see ListenStream= in its unit",
            path.display()
        );
        ensure!(
            place.replace(socket.into()).is_none(),
            "systemd passed two sockets named {name}; see FileDescriptorName= in their units"
        );
    }
    match (request, review) {
        (Some(request), Some(review)) => Ok([request, review]),
        _ => bail!("systemd passed one socket only; start both socket units, request and review"),
    }
}

/// Serves until `stop` is done; calls `ready` when the sockets are served.
///
/// # Errors
/// The store cannot be opened, or a socket cannot be served.
pub async fn serve(
    setup: Setup,
    ready: impl FnOnce(),
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let (store, report) = Store::open(&setup.state_dir)?;
    let (rules, mut problems) = rules::load(&setup.config.operands_dir);
    problems.extend(report.set_aside.map(|kept| {
        let kept = kept.display();
        format!("broker.db was damaged and is kept as {kept}; older requests are forgotten")
    }));
    for problem in &problems {
        tracing::error!(event = "problem_at_start", problem);
    }
    let problem = problems.into_iter().reduce(|all, one| format!("{all}; {one}"));
    let execd = Execd::new(setup.runtime_dir.join("exec.sock"));
    let front =
        Rc::new(Front::new(setup.config, execd, (&setup.state_dir, store), rules, problem)?);
    let request = tokio::net::UnixListener::from_std(setup.request)?;
    let review = tokio::net::UnixListener::from_std(setup.review)?;
    LocalSet::new()
        .run_until(async {
            learn(&front).await;
            spawn_local(settle::expire(Rc::clone(&front)));
            spawn_local(settle::clear_doubts(Rc::clone(&front)));
            spawn_local(serve::accept(Rc::clone(&front), Door::Request, request));
            spawn_local(serve::accept(Rc::clone(&front), Door::Review, review));
            crash_point("front-start-before-ready");
            ready();
            stop.await;
        })
        .await;
    Ok(())
}

/// Learns from the root half who may ask and what became of open requests. Without an answer the
/// front serves all the same: everybody is told that the broker is unavailable until there is one.
async fn learn(front: &Front) {
    match front.info_since(Instant::now()).await {
        Ok(_) => settle::reconcile(front).await,
        Err(error) => tracing::warn!(event = "execd_unavailable", cause = ?error),
    }
}
