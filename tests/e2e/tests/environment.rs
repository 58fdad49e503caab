//! Variables that make a program run, load or trust something else: each is refused by its name, by
//! the front and by the root half, and none comes along unnoticed.

use olb_e2e_tests::{ExecSock, view};
use olb_e2e_tests::{Scene, plan_for, refused, submit_of};
use olb_exec_api::Reason;
use olb_lease::VerdictKind;
use olb_wire::ByteBuf;

/// What has been used for it, by kind.
const HOSTILE: [(&str, &[&str]); 9] = [
    (
        "the loader and libc",
        &[
            "GCONV_PATH",
            "GETCONF_DIR",
            "GLIBC_TUNABLES",
            "HOSTALIASES",
            "LD_AUDIT",
            "LD_BIND_NOW",
            "LD_CONFIG",
            "LD_DEBUG",
            "LD_DEBUG_OUTPUT",
            "LD_LIBRARY_PATH",
            "LD_ORIGIN_PATH",
            "LD_PRELOAD",
            "LD_PROFILE",
            "LD_PROFILE_OUTPUT",
            "LD_SHOW_AUXV",
            "LD_USE_LOAD_BIAS",
            "LOCALDOMAIN",
            "LOCPATH",
            "MALLOC_CHECK_",
            "MALLOC_TRACE",
            "NIS_PATH",
            "NLSPATH",
            "RESOLV_HOST_CONF",
            "RES_OPTIONS",
            "TZDIR",
        ],
    ),
    (
        "shells",
        &[
            "BASHOPTS",
            "BASH_ENV",
            "BASH_FUNC_id%%",
            "BASH_LOADABLES_PATH",
            "BASH_XTRACEFD",
            "CDPATH",
            "ENV",
            "FPATH",
            "GLOBIGNORE",
            "IFS",
            "NULLCMD",
            "PROMPT_COMMAND",
            "PS1",
            "PS4",
            "READNULLCMD",
            "SHELLOPTS",
            "ZDOTDIR",
            "id()",
        ],
    ),
    (
        "interpreters",
        &[
            "CLASSPATH",
            "GEM_HOME",
            "GEM_PATH",
            "JAVA_TOOL_OPTIONS",
            "JDK_JAVA_OPTIONS",
            "LUA_CPATH",
            "LUA_INIT",
            "LUA_INIT_5_4",
            "LUA_PATH",
            "NODE_OPTIONS",
            "NODE_PATH",
            "PERL5DB",
            "PERL5LIB",
            "PERL5OPT",
            "PERLIO_DEBUG",
            "PERLLIB",
            "PERL_HASH_SEED_DEBUG",
            "PHPRC",
            "PHP_INI_SCAN_DIR",
            "PYTHONBREAKPOINT",
            "PYTHONEXECUTABLE",
            "PYTHONHOME",
            "PYTHONINSPECT",
            "PYTHONPATH",
            "PYTHONPLATLIBDIR",
            "PYTHONPYCACHEPREFIX",
            "PYTHONSAFEPATH",
            "PYTHONSTARTUP",
            "PYTHONUSERBASE",
            "PYTHONWARNINGS",
            "RUBYLIB",
            "RUBYOPT",
            "TCLLIBPATH",
            "_JAVA_OPTIONS",
        ],
    ),
    (
        "editors and pagers",
        &[
            "BROWSER",
            "EDITOR",
            "EXINIT",
            "LESSCLOSE",
            "LESSKEY",
            "LESSOPEN",
            "MANPAGER",
            "MORE",
            "PAGER",
            "SUDO_EDITOR",
            "SYSTEMD_EDITOR",
            "SYSTEMD_LESS",
            "SYSTEMD_PAGER",
            "SYSTEMD_PAGERSECURE",
            "VIMINIT",
            "VISUAL",
        ],
    ),
    (
        "tools that run or read what it names",
        &[
            "APT_CONFIG",
            "AWS_CONFIG_FILE",
            "CC",
            "CURL_HOME",
            "DOCKER_CONFIG",
            "DOCKER_HOST",
            "DPKG_ADMINDIR",
            "DPKG_ROOT",
            "GIT_ASKPASS",
            "GIT_CONFIG",
            "GIT_CONFIG_COUNT",
            "GIT_CONFIG_GLOBAL",
            "GIT_DIR",
            "GIT_EDITOR",
            "GIT_EXEC_PATH",
            "GIT_EXTERNAL_DIFF",
            "GIT_SSH",
            "GIT_SSH_COMMAND",
            "GIT_TEMPLATE_DIR",
            "GIT_WORK_TREE",
            "INPUTRC",
            "KUBECONFIG",
            "LD",
            "MAKEFLAGS",
            "MAKEFILES",
            "MYSQL_HOME",
            "OPENSSL_CONF",
            "OPENSSL_ENGINES",
            "OPENSSL_MODULES",
            "PGSERVICEFILE",
            "PGSYSCONFDIR",
            "PSQLRC",
            "RSYNC_RSH",
            "SSH_ASKPASS",
            "SSH_AUTH_SOCK",
            "SSL_CERT_DIR",
            "SSL_CERT_FILE",
            "SYSTEMD_UNIT_PATH",
            "TAR_OPTIONS",
            "TERMCAP",
            "TERMINFO",
            "TERMINFO_DIRS",
            "TERMPATH",
            "UNZIP",
            "WGETRC",
            "ZIPOPT",
        ],
    ),
    (
        "places",
        &[
            "CWD",
            "HOME",
            "OLDPWD",
            "PATH",
            "PWD",
            "TEMP",
            "TMP",
            "TMPDIR",
            "XDG_CONFIG_DIRS",
            "XDG_CONFIG_HOME",
            "XDG_DATA_DIRS",
            "XDG_RUNTIME_DIR",
        ],
    ),
    (
        "who somebody is",
        &[
            "KRB5CCNAME",
            "KRB5_CONFIG",
            "LOGNAME",
            "MAIL",
            "SHELL",
            "SUDO_COMMAND",
            "SUDO_GID",
            "SUDO_PROMPT",
            "SUDO_UID",
            "SUDO_USER",
            "USER",
            "USERNAME",
            "XAUTHORITY",
        ],
    ),
    (
        "where traffic goes",
        &[
            "ALL_PROXY",
            "DBUS_SESSION_BUS_ADDRESS",
            "DBUS_SYSTEM_BUS_ADDRESS",
            "DISPLAY",
            "FTP_PROXY",
            "HTTPS_PROXY",
            "HTTP_PROXY",
            "NOTIFY_SOCKET",
            "LISTEN_FDS",
            "LISTEN_PID",
            "NO_PROXY",
            "http_proxy",
        ],
    ),
    ("this broker", &["OLB_RUNTIME_DIR", "OLB_TEST_SEED"]),
];

/// Values of permitted variables that lead out of what the name promises.
const VALUES: [(&str, &str); 12] = [
    ("TZ", "/etc/shadow"),
    ("TZ", "../../../etc/shadow"),
    ("TZ", ":/etc/shadow"),
    ("LANG", "../../tmp/x"),
    ("LANGUAGE", "/tmp/x"),
    ("LC_ALL", "/tmp/x"),
    ("LC_MESSAGES", "x/../../tmp"),
    ("TERM", "/tmp/x"),
    ("TERM", "$(id)"),
    ("COLUMNS", "80;id"),
    ("LINES", "-1"),
    ("DEBIAN_FRONTEND", "editor"),
];

fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    let names = HOSTILE.iter().flat_map(|(_, names)| names.iter());
    names.map(|name| (*name, "x")).chain(VALUES)
}

/// What a refusal shows of a name.
fn shown(name: &str) -> String {
    name.replace(|sign: char| !sign.is_ascii_alphanumeric() && sign != '_', "?")
}

#[test]
fn a_variable_that_makes_programs_do_something_else_is_refused_by_its_name() {
    let mut scene = Scene::start();
    for (name, value) in all() {
        let mut submit = submit_of(&scene.instance, &["true"]);
        submit.command.environment_words =
            vec![ByteBuf::from(format!("{name}={value}").as_bytes())];
        let (reason, text) = refused(scene.agent.submit(submit));
        assert_eq!(reason, Reason::Unsupported, "{name}");
        assert!(text.contains(&shown(name)), "{name}: {text}");
    }
    // Beside a permitted one, too.
    let mut submit = submit_of(&scene.instance, &["true"]);
    submit.command.environment_words =
        ["TZ=UTC", "LD_PRELOAD=/tmp/x.so"].map(|word| ByteBuf::from(word.as_bytes())).into();
    assert!(refused(scene.agent.submit(submit)).1.contains("LD_PRELOAD"));
    let mut submit = submit_of(&scene.instance, &["true"]);
    submit.command.environment_words = vec![ByteBuf::from("TZ=UTC".as_bytes())];
    assert_eq!(view(scene.agent.submit(submit)).state, "pending");
}

//
#[test]
fn a_captured_front_gets_no_such_variable_past_the_root_half() {
    let scene = Scene::start();
    let sock = ExecSock::of(&scene.instance);
    let good = plan_for(&scene.instance, &sock.info(), scene.instance.requester(0), &["/bin/true"]);
    let refusal = |plan: &olb_lease::Plan| {
        let bytes = plan.encode().ok()?;
        let decided = sock.decide_as(&scene.alice, VerdictKind::Approve, &bytes, scene.epoch);
        Some(decided.map(drop).expect_err("a refusal"))
    };
    for (name, value) in all() {
        let mut hidden = good.clone();
        hidden.environment.insert(name.into(), value.into());
        let mut typed = hidden.clone();
        typed.environment_words.insert(name.into(), value.into());
        for plan in [hidden, typed] {
            let Some(refusal) = refusal(&plan) else {
                // There is no plan with such a name.
                assert_ne!(shown(name), name, "{name}");
                continue;
            };
            assert_eq!(refusal.reason, Reason::Unsupported, "{name}={value}");
            assert!(refusal.text.contains(name), "{name}: {}", refusal.text);
        }
    }
    assert!(
        sock.decide_as(&scene.alice, VerdictKind::Approve, &good.encode().unwrap(), scene.epoch)
            .is_ok()
    );
}
