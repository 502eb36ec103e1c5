#!/bin/sh
# Puts rkyolo on a board from the folder that this file lies in, with no network: see usage below.
set -eu
umask 022

usage() {
  cat <<'END'
sudo ./install.sh [--bundle FOLDER] [--start] [--watch SECONDS]
sudo ./install.sh --uninstall

Installs rkyolo, or brings it up to date. Configuration and bundles that are there stay. Where the
service runs it is started anew; where it then does not get ready and stay up, what ran before is
put back. From where something is changed that runs, it is finished or put back, even where the
terminal or the connection is lost.

--bundle FOLDER   run this bundle from now on; else the package's own, where there is none yet
--start           start the service now, and with the board; not where its configuration is only
                  the example so far
--watch SECONDS   how long the service has to stay up to count as healthy [10]
--uninstall       remove all of it: program, configuration, bundles, and what was detected
--root FOLDER     work below FOLDER only, as on a board's unpacked image: no user is created and no
                  service called, the commands for that are printed
--python COMMAND  the Python to install with
--systemctl COMMAND  with --root, what to call there instead of printing

Exit codes: 0 done, 1 the service is not ready, or doctor found a fault, 2 not installed.
END
}

fail() {
  told=yes
  echo "error: $1" >&2
  exit "${2:-2}"
}

here=$(cd "$(dirname "$0")" && pwd)
root='' bundle='' python='' systemctl='' uninstall='' start='' watch_s=10 told=''
while [ $# -gt 0 ]; do
  case $1 in
    --uninstall | --start) eval "${1#--}=yes" ;;
    --bundle | --root | --python | --systemctl | --watch)
      [ $# -gt 1 ] || fail "$1 needs a value: ./install.sh --help"
      case $1 in
        --bundle) bundle=$2 ;;
        --root) root=$2 ;;
        --python) python=$2 ;;
        --systemctl) systemctl=$2 ;;
        --watch) watch_s=$2 ;;
      esac
      shift ;;
    -h | --help) usage; exit ;;
    *) fail "there is no option $1: ./install.sh --help" ;;
  esac
  shift
done

if [ -n "$root" ]; then
  [ -d "$root" ] || fail "--root $root is no folder"
  root=$(cd "$root" && pwd)
  [ "$root" != / ] || root=''
fi
if [ -z "$root" ]; then
  [ "$(id -u)" = 0 ] || fail "this needs root: sudo ./install.sh, or --root FOLDER"
fi

program=$root/opt/rkyolo
settings=$root/etc/rkyolo
data=$root/var/lib/rkyolo
unit=$root/etc/systemd/system/rkyolo.service
command=$root/usr/local/bin/rkyolo

# users and services: on a board called, below --root told
system() {
  if [ -z "$root" ]; then "$@"; else echo "on the board: $*"; fi
}

service() {
  if [ -n "$root" ] && [ -n "$systemctl" ]; then $systemctl "$@"; else system systemctl "$@"; fi
}

# none below --root, where nothing runs, unless it is said what to call
active() {
  if [ -n "$root" ] && [ -z "$systemctl" ]; then return 1; fi
  service is-active --quiet rkyolo 2>/dev/null
}

remove() {
  [ -d "$program" ] || fail "there is no rkyolo in $program"
  if [ -z "$root" ] || [ -n "$systemctl" ]; then
    service disable --now rkyolo || true
  else
    service disable --now rkyolo
  fi
  made=$(cat "$program/made-folders" 2>/dev/null || true)
  rm -rf "$program" "$settings" "$data" "$unit" "$command"
  # what the installation made, where nobody has put anything since; the deepest first
  echo "$made" | sort -ru | while read -r path; do
    [ -z "$path" ] || rmdir "$root$path" 2>/dev/null || true
  done
  service daemon-reload
  if [ -n "$root" ] || id rkyolo >/dev/null 2>&1; then system userdel rkyolo; fi
  echo "rkyolo is removed; librknnrt was not touched"
}

if [ -n "$uninstall" ]; then
  remove
  exit
fi

# ID, VERSION, PYTHON (X.Y), TOOLKIT and PLATFORMS of this package
[ -f "$here/package.env" ] || fail "$here is no package: run the install.sh of an unpacked one"
. "$here/package.env"

check() {
  if [ -z "$root" ] && [ "$(uname -m)" != aarch64 ]; then
    fail "this package is for 64-bit ARM, and this is $(uname -m)"
  fi
  [ -n "$python" ] || python=python$PYTHON
  if ! found=$($python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null); then
    fail "there is no $python here: install it, or take the package for the Python there is"
  fi
  [ "$found" = "$PYTHON" ] || fail "$python is Python $found, and this package is for $PYTHON"
  if [ -n "$bundle" ]; then
    [ -f "$bundle/manifest.yaml" ] || fail "--bundle $bundle is no bundle: it has no manifest.yaml"
    if [ -e "$data/bundle" ] && [ ! -L "$data/bundle" ]; then
      fail "$data/bundle is not a link of this installation: move it away to use --bundle"
    fi
  fi
  case $watch_s in '' | *[!0-9]*) fail "--watch $watch_s is no number of seconds" ;; esac
}

# make a folder of the board's, and remember each one that was not there
folder() {
  [ -d "$root$1" ] && return
  folder "$(dirname "$1")"
  mkdir "$root$1"
  made="$made
$1"
}

# swap what a link leads to, so that there is no moment without it
point() {
  ln -sfn "$1" "$2.new"
  mv -Tf "$2.new" "$2"
}

# A virtual environment, laid out by hand: that needs no ensurepip, which Debian keeps in a package
# of its own, and it holds the board's paths below --root too.
install_program() {
  release=$program/releases/$ID
  if [ -d "$release" ]; then
    echo "rkyolo $VERSION is there already"
    return
  fi
  echo "installing rkyolo $VERSION for Python $PYTHON"
  part=$program/releases/.$ID.part
  rm -rf "$part"
  site=$part/lib/python$PYTHON/site-packages
  mkdir -p "$site" "$part/bin"
  platforms=''
  for platform in $PLATFORMS; do platforms="$platforms --platform $platform"; done
  set --
  for wheel in "$here"/wheels/*.whl; do
    case $wheel in */pip-*) pip=$wheel/pip ;; *) set -- "$@" "$wheel" ;; esac
  done
  $python "$pip" --isolated --quiet --disable-pip-version-check install --no-index --no-deps \
    --root-user-action=ignore --no-warn-script-location --no-cache-dir --implementation cp \
    --python-version "$PYTHON" $platforms --only-binary=:all: --target "$site" "$@" ||
    fail "rkyolo could not be installed, pip says why above"
  rm -rf "${site:?}/bin"
  interpreter=/usr/bin/python$PYTHON
  [ -n "$root" ] || interpreter=$($python -c 'import sys; print(sys._base_executable)')
  ln -s "$interpreter" "$part/bin/python3"
  printf 'home = %s\ninclude-system-site-packages = false\n' "$(dirname "$interpreter")" \
    >"$part/pyvenv.cfg"
  cp "$here/rkyolo.service" "$part"
  printf '#!%s\nfrom runtime.cli import main\n\nmain()\n' \
    "/opt/rkyolo/releases/$ID/bin/python3" >"$part/bin/rkyolo"
  chmod 755 "$part/bin/rkyolo"
  mv "$part" "$release"
}

install_settings() {
  folder /etc/rkyolo
  if [ ! -e "$settings/rkyolo.yaml" ]; then
    install -m 640 "$here/rkyolo.yaml" "$settings/rkyolo.yaml"
    fresh=yes
  fi
  if [ -n "$root" ] || ! id rkyolo >/dev/null 2>&1; then
    system useradd --system --user-group --home-dir /var/lib/rkyolo --no-create-home \
      --shell /usr/sbin/nologin rkyolo
  fi
  for group in render video; do
    if [ -n "$root" ] || ! getent group "$group" >/dev/null; then system groupadd -rf "$group"; fi
  done
  system chown root:rkyolo /etc/rkyolo/rkyolo.yaml
  folder /var/lib/rkyolo/bundles
  system chown rkyolo:rkyolo /var/lib/rkyolo
}

# copy a bundle under a name that says its content; sets added
add_bundle() {
  added=bundles/$(basename "$(cd "$1" && pwd)")-$(sha256sum "$1/manifest.yaml" | cut -c 1-8)
  [ ! -d "$data/$added" ] || return 0
  rm -rf "$data/$added.part"
  cp -R "$1" "$data/$added.part"
  chmod -R u=rwX,go=rX "$data/$added.part"
  mv "$data/$added.part" "$data/$added"
}

install_bundle() {
  if [ -n "$bundle" ]; then
    add_bundle "$bundle"
    point "$added" "$data/bundle"
  elif [ -d "$here/bundle" ] && [ ! -e "$data/bundle" ]; then
    add_bundle "$here/bundle"
    point "$added" "$data/bundle"
  fi
}

use_release() {
  point "$1" "$program/current"
  cp "$program/$1/rkyolo.service" "$unit.new"
  mv -f "$unit.new" "$unit"
  service daemon-reload
}

# ready, as the service says by itself, and still up a while later. It may have been started so
# often that systemd would refuse, which counts our own starts too.
comes_up() {
  service reset-failed rkyolo 2>/dev/null || true
  service restart rkyolo || return 1
  if [ -n "$root" ] && [ -z "$systemctl" ]; then return; fi
  left=$watch_s
  while [ "$left" -gt 0 ]; do
    sleep 1
    active || return 1
    left=$((left - 1))
  done
}

put_back() {
  use_release "$was_release"
  if [ -n "$was_bundle" ]; then point "$was_bundle" "$data/bundle"; else rm -f "$data/bundle"; fi
}

start_or_put_back() {
  comes_up && return
  why="the service did not get ready and stay up: journalctl -u rkyolo says why"
  [ -n "$was_release" ] || fail "$why" 1
  put_back || true
  if comes_up; then fail "$why; what ran before runs again" 1; fi
  fail "$why; what ran before is put back, and does not come up either" 1
}

forget_old_releases() {
  for path in "$program"/releases/*; do
    case releases/$(basename "$path") in
      "releases/$ID" | "$was_release") ;;
      *) rm -rf "$path" ;;
    esac
  done
}

# code 1 is for what fail and doctor say; a command that fails before, as on a full disk, is a 2
leave() {
  code=$?
  rm -rf "$program/releases/.$ID.part" "$data"/bundles/*.part
  if [ -n "$swapping" ] && [ -n "$was_release" ]; then put_back || true; fi
  [ "$code" = 0 ] || [ -n "$told" ] || exit 2
}

check
made='' fresh='' running='' later='' swapping=''
folder /opt/rkyolo/releases
folder /etc/systemd/system
folder /usr/local/bin
# one at a time: after a lost connection an earlier one may still be at work
exec 9<"$program"
flock -n 9 || fail "another installation is at work here: wait until it is done"
was_release=$(readlink "$program/current" || true)
was_bundle=$(readlink "$data/bundle" || true)
trap leave EXIT
trap 'exit 2' INT TERM
trap '' HUP PIPE
install_program
install_settings
if [ -n "$made" ]; then echo "$made" >>"$program/made-folders"; fi
if active; then running=yes; fi
# with cameras that are not the user's it could only fail
if [ -n "$fresh" ]; then later=$start start=''; fi
trap '' INT TERM
swapping=yes
install_bundle
use_release "releases/$ID"
ln -sfn /opt/rkyolo/current/bin/rkyolo "$command"
if [ -n "$start" ]; then service enable rkyolo; fi
swapping=''
if [ -n "$start$running" ]; then start_or_put_back; fi
forget_old_releases

echo "/usr/lib/librknnrt.so is not touched here. Bundles need it in the version of the toolkit that built"
echo "them${TOOLKIT:+ ($TOOLKIT)} or newer; the vendor keeps it at rknpu2/runtime/Linux/librknn_api/aarch64/"
echo "of https://github.com/airockchip/rknn-toolkit2."
if [ -n "$fresh" ]; then
  echo "Next: name your cameras in /etc/rkyolo/rkyolo.yaml, then sudo systemctl enable --now rkyolo"
fi
set -- doctor --user rkyolo
[ ! -e "$data/bundle" ] || set -- "$@" /var/lib/rkyolo/bundle
told=yes
system /opt/rkyolo/current/bin/rkyolo "$@" || exit 1
[ -z "$later" ] || fail "it is not started yet: name your cameras first, as it says above" 1
