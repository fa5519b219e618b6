#!/usr/bin/env bash
# Creates the Docker network whose containers get addresses of the VPC: finds the ENI, brings up its interface, and passes
# both to Docker. Needs bash, coreutils, curl, ip and docker. See --help.
set -euo pipefail

readonly EXIT_FAILED=1 EXIT_USAGE=2 EXIT_DIFFERS=3 ABSENT=4
readonly IMDS="${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254}"
readonly NETWORKD_DIR="${EC2_IPAM_NETWORKD_DIR:-/etc/systemd/network}"
readonly LINK_WAIT_S="${EC2_IPAM_LINK_WAIT_S:-30}"
readonly IMDS_CONNECT_S=2 IMDS_ANSWER_S=5 FLUSH_WAIT_S=5
readonly MTU_MIN=576 MTU_MAX=9001 # the largest MTU of EC2
# systemd-networkd uses the first matching file by name, from all folders. This prefix sorts before 10- of cloud-init and
# netplan, and before 70- of amazon-ec2-net-utils.
readonly FILE_PREFIX=05-ec2-ipam-

usage() {
  cat <<'HELP'
Usage: mknet.sh [options] [IFACE…]

Creates a Docker network on an ENI, for the IPAM driver ec2-ipam. Without IFACE it takes the instance's only ENI
besides the primary. Several IFACEs get one network each, called NAME-IFACE. A correct network that exists already
is not changed, so the command may be repeated at any time.

  -n NAME          name of the network (ec2)
  -m MODE          ipvlan mode: l2, l3 or l3s (l2)
  --mtu N          MTU of the interface, 576 to 9001 bytes (9001)
  --persist        keep systemd-networkd (amazon-ec2-net-utils, netplan) from adding addresses to the ENI, and
                   bring it up at boot: writes /etc/systemd/network/05-ec2-ipam-ENI.network
  --link           only bring up the ENIs of --persist, waiting up to 30 s for each to appear; needs neither
                   Docker nor instance metadata, and takes no other option
  --primary        take the primary ENI, which is refused otherwise
  --driver DRIVER  ipvlan, or macvlan for tests on kernels without ipvlan; EC2 drops macvlan's frames (ipvlan)
  --help           this text

Environment: AWS_EC2_METADATA_SERVICE_ENDPOINT, instead of http://169.254.169.254
             EC2_IPAM_NETWORKD_DIR, instead of /etc/systemd/network
             EC2_IPAM_LINK_WAIT_S, instead of 30
Exit status: 0 done, 1 failed, 2 wrong usage, 3 another network has that name; nothing was changed
HELP
}

say() { printf '%s\n' "$*"; }
warn() { printf 'mknet.sh: warning: %s\n' "$*" >&2; }
die() { # STATUS TEXT…: what; why; what to do
  local status=$1 text="${*:2}"
  printf 'mknet.sh: %s\n' "${text//$'\n'/ }" >&2
  exit "$status"
}
need() {
  local command
  for command; do
    [[ -n $(type -P "$command") ]] || die $EXIT_FAILED "$command is not installed; mknet.sh needs it; install it"
  done
}

# --- arguments

name=ec2 mode=l2 mtu=9001 driver=ipvlan persist='' link='' primary=''
ifaces=()

parse() {
  local given=$#
  while (($# > 0)); do
    case $1 in
      --help | -h)
        usage
        exit 0
        ;;
      -n | -m | --mtu | --driver)
        (($# > 1)) || die $EXIT_USAGE "$1 needs a value; see --help"
        case $1 in -n) name=$2 ;; -m) mode=$2 ;; --mtu) mtu=$2 ;; --driver) driver=$2 ;; esac
        shift
        ;;
      --persist) persist=yes ;;
      --link) link=yes ;;
      --primary) primary=yes ;;
      -*) die $EXIT_USAGE "unknown option $1; see --help" ;;
      *)
        [[ " ${ifaces[*]-} " != *" $1 "* ]] || die $EXIT_USAGE "$1 is named twice; one interface carries one network"
        ifaces+=("$1")
        ;;
    esac
    shift
  done
  [[ -z $link ]] || ((given == 1)) || die $EXIT_USAGE "--link takes no other option; it brings up the ENIs of --persist"
  [[ $name =~ ^[a-zA-Z0-9][a-zA-Z0-9_.-]*$ ]] ||
    die $EXIT_USAGE "-n '$name' is no name for a network; letters, digits and _.- are accepted"
  [[ $mode == l2 || $mode == l3 || $mode == l3s ]] || die $EXIT_USAGE "-m $mode is no ipvlan mode; l2, l3 and l3s are accepted"
  [[ $driver == ipvlan || $driver == macvlan ]] || die $EXIT_USAGE "--driver $driver is unknown; ipvlan and macvlan are accepted"
  [[ $mtu =~ ^[1-9][0-9]{2,3}$ && $mtu -ge $MTU_MIN && $mtu -le $MTU_MAX ]] ||
    die $EXIT_USAGE "--mtu $mtu is out of range; $MTU_MIN to $MTU_MAX bytes are accepted"
  [[ -z $primary || -z $persist ]] ||
    die $EXIT_USAGE "--persist and --primary exclude each other; the host would have no address after the next boot"
}

# --- interfaces of this host

# Reads the output of `ip` into iface_of (by MAC). Interfaces with the MAC of their parent are left out.
declare -A iface_of
read_links() {
  local lines line
  iface_of=()
  lines=$(ip -oneline -details link show 2>&1) || die $EXIT_FAILED "cannot list interfaces: $lines"
  while IFS= read -r line; do
    [[ ! $line =~ \\\ +(ipvlan|ipvtap|vlan)\  ]] || continue
    [[ $line =~ ^[0-9]+:\ ([^:@]+)(@[^:]+)?:\ .*\ link/ether\ ([0-9a-f:]{17}) ]] || continue
    : "${iface_of[${BASH_REMATCH[3]}]:=${BASH_REMATCH[1]}}"
  done <<<"$lines"
}

mac_of() { # IFACE
  local mac
  for mac in "${!iface_of[@]}"; do
    if [[ ${iface_of[$mac]} == "$1" ]]; then
      say "$mac"
      return
    fi
  done
  die $EXIT_USAGE "there is no interface $1; these could be used: ${iface_of[*]-none}"
}

bring_up() { # IFACE MTU
  local text
  text=$(ip link set dev "$1" mtu "$2" up 2>&1) ||
    die $EXIT_FAILED "cannot bring $1 up with MTU $2: $text; run as root, or choose another --mtu"
}

addresses_on() { # IFACE: one line, empty when there are none
  local lines line found=()
  lines=$(ip -oneline address show dev "$1" scope global 2>&1) || die $EXIT_FAILED "cannot read the addresses of $1: $lines"
  while IFS= read -r line; do
    [[ $line =~ \ inet6?\ ([^ ]+) ]] && found+=("${BASH_REMATCH[1]}")
  done <<<"$lines"
  say "${found[*]-}"
}

warn_of_addresses() { # IFACE
  local addresses advice="ip address flush dev $1"
  addresses=$(addresses_on "$1")
  [[ -n $addresses ]] || return 0
  if [[ -n $primary ]]; then
    warn "$1 has the host's $addresses: its containers cannot reach this host"
  else
    [[ -n $persist ]] || advice="run with --persist, then: $advice"
    warn "$1 has $addresses: the host answers for addresses of containers (amazon-ec2-net-utils and others add them);" \
      "$advice"
  fi
}

# --- instance metadata

token=
imds() { # METHOD PATH HEADER; returns ABSENT when PATH does not exist
  local answer status advice="run this on an EC2 instance with IMDS enabled"
  answer=$(curl -q --silent --show-error --noproxy '*' --connect-timeout $IMDS_CONNECT_S --max-time $IMDS_ANSWER_S \
    --write-out '\n%{http_code}' --request "$1" --header "$3" "${IMDS%/}/latest/$2" 2>&1) ||
    die $EXIT_FAILED "cannot read $2 from instance metadata at $IMDS: $answer; $advice"
  status=${answer##*$'\n'}
  case "$1 $status" in
    *' 2'??) say "${answer%$'\n'*}" ;;
    'GET 404') return $ABSENT ;;
    *) die $EXIT_FAILED "cannot read $2 from instance metadata at $IMDS: HTTP status $status; $advice" ;;
  esac
}
metadata_if_any() { # PATH: prints nothing when it does not exist
  local status=0
  imds GET "meta-data/$1" "X-aws-ec2-metadata-token: $token" || status=$?
  ((status == 0 || status == ABSENT)) || exit $status
}
metadata() { # PATH
  local answer
  answer=$(metadata_if_any "$1") || exit $?
  [[ -n $answer ]] || die $EXIT_FAILED "instance metadata at $IMDS has no $1; run this on an EC2 instance"
  say "$answer"
}

instance=
declare -A eni_of device_of cidr_of router_of without_ipv4 # by MAC
incomplete=()                                              # MACs of ENIs that are being attached or detached
read_enis() {
  local macs mac eni device cidr ips
  token=$(imds PUT api/token 'X-aws-ec2-metadata-token-ttl-seconds: 60')
  instance=$(metadata instance-id)
  macs=$(metadata network/interfaces/macs/)
  for mac in ${macs//\//}; do
    eni=$(metadata_if_any "network/interfaces/macs/$mac/interface-id")
    device=$(metadata_if_any "network/interfaces/macs/$mac/device-number")
    cidr=$(metadata_if_any "network/interfaces/macs/$mac/subnet-ipv4-cidr-block")
    ips=$(metadata_if_any "network/interfaces/macs/$mac/local-ipv4s")
    if [[ -n $eni && (-z $cidr || -z $ips) ]]; then # an EFA-only or IPv6-only ENI
      without_ipv4[$mac]=$eni
      continue
    elif [[ -z $eni || -z $device ]]; then
      incomplete+=("$mac")
      continue
    fi
    eni_of[$mac]=$eni
    device_of[$mac]=$device
    cidr_of[$mac]=$cidr
    router_of[$mac]=$(router_in "$cidr")
  done
}

router_in() { # CIDR: the VPC router has the second address of the subnet
  [[ $1 =~ ^([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})/([0-9]{1,2})$ ]] ||
    die $EXIT_FAILED "instance metadata gives '$1' as the subnet; a CIDR such as 10.0.1.0/24 was expected"
  local octets=("${BASH_REMATCH[@]:1:4}") length=$((10#${BASH_REMATCH[5]})) base=0 octet
  for octet in "${octets[@]}"; do base=$((base << 8 | 10#$octet)); done
  local router=$(((base >> (32 - length) << (32 - length)) + 1))
  say "$((router >> 24 & 255)).$((router >> 16 & 255)).$((router >> 8 & 255)).$((router & 255))"
}

# --- choice of ENIs

chosen=() # MACs
choose_named() {
  local iface mac
  for iface in "${ifaces[@]}"; do
    mac=$(mac_of "$iface")
    [[ -z ${without_ipv4[$mac]-} ]] ||
      die $EXIT_USAGE "${without_ipv4[$mac]} ($iface) has no IPv4 address (EFA-only or IPv6-only); name another interface"
    [[ -n ${eni_of[$mac]-} ]] ||
      die $EXIT_FAILED "$iface ($mac) is no ENI of $instance by instance metadata; a new ENI appears after some seconds: try again"
    [[ ${device_of[$mac]} != 0 || -n $primary ]] ||
      die $EXIT_USAGE "$iface is the primary ENI, which the host uses; name another interface, or add --primary"
    [[ ${device_of[$mac]} == 0 || -z $primary ]] ||
      die $EXIT_USAGE "--primary was given, but $iface is not the primary ENI; leave it out"
    chosen+=("$mac")
  done
}
choose_only() {
  local mac
  [[ -n $primary ]] || ((${#incomplete[@]} == 0)) ||
    die $EXIT_FAILED "instance metadata has no id or device of ${incomplete[*]} yet; a new ENI appears after some seconds:" \
      "try again, or name an interface"
  for mac in "${!eni_of[@]}"; do
    if [[ -n $primary && ${device_of[$mac]} == 0 || -z $primary && ${device_of[$mac]} != 0 ]]; then chosen+=("$mac"); fi
  done
  case ${#chosen[@]} in
    0) die $EXIT_USAGE "$instance has no ENI with an IPv4 address but the primary; attach another one, or add --primary" ;;
    1) ;;
    *)
      for mac in "${chosen[@]}"; do
        say "  ${iface_of[$mac]-(no interface yet)}  ${eni_of[$mac]}  $mac  ${cidr_of[$mac]}"
      done | sort >&2
      die $EXIT_USAGE "$instance has ${#chosen[@]} ENIs besides the primary, listed above; name the interfaces to use"
      ;;
  esac
}
choose() {
  local mac
  if ((${#ifaces[@]} > 0)); then choose_named; else choose_only; fi
  for mac in "${chosen[@]}"; do
    [[ -n ${iface_of[$mac]-} ]] ||
      die $EXIT_FAILED "${eni_of[$mac]} is attached, but no interface has its MAC $mac yet; wait a moment and try again"
  done
}

network_of() { # MAC
  if ((${#chosen[@]} > 1)); then say "$name-${iface_of[$1]}"; else say "$name"; fi
}

# --- the network

id_of() { # NETWORK: its id, or nothing. Not by `inspect NAME`, which takes "ec2" for the start of an id.
  local lines id found
  lines=$(docker network ls --no-trunc --format '{{.ID}} {{.Name}}' 2>&1) ||
    die $EXIT_FAILED "Docker does not answer: $lines; start it, or run as root"
  while read -r id found; do
    if [[ $found == "$1" ]]; then
      say "$id"
      return
    fi
  done <<<"$lines"
}

readonly FACTS=('driver' 'IPAM driver' 'parent' 'ipvlan_mode' 'subnet' 'gateway' 'eni-id' 'instance-id')
readonly FACTS_FORMAT='{{.Driver}}
{{.IPAM.Driver}}
{{index .Options "parent"}}
{{index .Options "ipvlan_mode"}}
{{range .IPAM.Config}}{{.Subnet}} {{end}}
{{range .IPAM.Config}}{{.Gateway}} {{end}}
{{index .IPAM.Options "eni-id"}}
{{index .IPAM.Options "instance-id"}}'

# Prints on stderr how an existing network differs; false when it does.
compare() { # MAC NETWORK ID
  local mac=$1 text found expected index differences=()
  expected=("$driver" ec2-ipam "${iface_of[$mac]}" "$mode" "${cidr_of[$mac]}" "${router_of[$mac]}"
    "${eni_of[$mac]}" "$instance")
  text=$(docker network inspect --format "$FACTS_FORMAT" "$3" 2>&1) || die $EXIT_FAILED "cannot inspect network $2: $text"
  mapfile -t found <<<"$text"
  if [[ $driver == ipvlan ]]; then : "${found[3]:=l2}"; else found[3]=$mode; fi
  for index in "${!FACTS[@]}"; do
    found[index]=${found[index]-}
    found[index]=${found[index]% }
    [[ ${found[index]} == "${expected[index]}" ]] ||
      differences+=("  ${FACTS[index]}: expected ${expected[index]}, found ${found[index]:-nothing}")
  done
  ((${#differences[@]} > 0)) || return 0
  printf 'mknet.sh: network %s is not what %s needs; nothing was changed; %s\n' "$2" "${iface_of[$mac]}" \
    "remove it (docker network rm $2) or choose another name (-n)" >&2
  printf '%s\n' "${differences[@]}" >&2
  return 1
}

create() { # MAC NETWORK
  local mac=$1 text options=(-o "parent=${iface_of[$1]}")
  [[ $driver == macvlan ]] || options+=(-o "ipvlan_mode=$mode")
  text=$(docker network create -d "$driver" "${options[@]}" --ipam-driver ec2-ipam \
    --subnet "${cidr_of[$mac]}" --gateway "${router_of[$mac]}" \
    --ipam-opt "eni-id=${eni_of[$mac]}" --ipam-opt "instance-id=$instance" "$2" 2>&1) || refuse "$mac" "$2" "$text"
  say "network $2: created on ${iface_of[$mac]} (${eni_of[$mac]}), ${cidr_of[$mac]}, router ${router_of[$mac]}"
}

refuse() { # MAC NETWORK TEXT
  local other
  # Docker names the other network by its device: di- or dm- and the start of its id.
  if [[ $3 =~ d[im]-([0-9a-f]{12})\ is\ already\ using\ parent ]]; then
    other=$(docker network inspect --format '{{.Name}}' "${BASH_REMATCH[1]}" 2>/dev/null) || other=${BASH_REMATCH[1]}
    die $EXIT_FAILED "cannot create network $2: ${iface_of[$1]} has network $other already, and an interface can have one;" \
      "use $other (-n), or remove it (docker network rm $other)"
  fi
  die $EXIT_FAILED "cannot create network $2: $3"
}

# --- boot

persist_link() { # MAC
  local file="$NETWORKD_DIR/$FILE_PREFIX${eni_of[$1]}.network" text
  text="# Written by mknet.sh. The addresses of ${eni_of[$1]} belong to containers: the host has none of them.
[Match]
MACAddress=$1
# Interfaces of containers have the same MAC address while Docker creates them.
Driver=!ipvlan

[Link]
MTUBytes=$mtu
ActivationPolicy=up
RequiredForOnline=no

[Network]
DHCP=no
IPv6AcceptRA=no
LinkLocalAddressing=no"
  if [[ -e $file && $(<"$file") == "$text" ]]; then
    say "$file: exists already"
    return
  fi
  { mkdir -p "$NETWORKD_DIR" && printf '%s\n' "$text" >"$file.new" && chmod 0644 "$file.new" && mv "$file.new" "$file"; } ||
    die $EXIT_FAILED "cannot write $file; run as root"
  say "$file: written"
  reload_networkd "${iface_of[$1]}"
}

reload_networkd() { # IFACE
  [[ -n $(type -P systemctl) && -n $(type -P networkctl) ]] || return 0
  systemctl is-active --quiet systemd-networkd.service 2>/dev/null || return 0
  local text deadline=$((SECONDS + FLUSH_WAIT_S))
  if ! text=$(networkctl reload 2>&1); then
    warn "systemd-networkd does not reload: ${text//$'\n'/ }; the file takes effect at the next boot"
    return 0
  fi
  while [[ -n $(addresses_on "$1") ]] && ((SECONDS < deadline)); do sleep 0.1; done
}

link_persisted() {
  local file line mac persisted_mtu count=0 failed='' late=() deadline=$((SECONDS + LINK_WAIT_S))
  for file in "$NETWORKD_DIR/$FILE_PREFIX"*.network; do
    [[ -e $file ]] || continue
    count=$((count + 1)) mac='' persisted_mtu=$mtu
    while IFS= read -r line; do
      case $line in MACAddress=*) mac=${line#*=} ;; MTUBytes=*) persisted_mtu=${line#*=} ;; esac
    done <"$file"
    read_links
    while [[ -z ${iface_of[${mac:-none}]-} ]] && ((SECONDS < deadline)); do
      sleep 0.2
      read_links
    done
    if [[ -z ${iface_of[${mac:-none}]-} ]]; then
      late+=("${file##*/} (${mac:-no MACAddress=})")
      continue
    fi
    # In a subshell, so that the others are brought up when one fails.
    if (bring_up "${iface_of[$mac]}" "$persisted_mtu"); then
      say "${iface_of[$mac]} ($mac): up, MTU $persisted_mtu"
    else
      failed=yes
    fi
  done
  ((count > 0)) || say "nothing to bring up: no $FILE_PREFIX*.network in $NETWORKD_DIR"
  ((${#late[@]} == 0)) ||
    die $EXIT_FAILED "no interface appeared within $LINK_WAIT_S s for ${late[*]}; attach the ENI, or remove the file"
  [[ -z $failed ]] || exit $EXIT_FAILED
}

main() {
  local mac network id differs='' existing=()
  parse "$@"
  need ip
  if [[ -n $link ]]; then
    link_persisted
    return
  fi
  need curl docker
  read_links
  read_enis
  choose
  for mac in "${chosen[@]}"; do # all are checked before the first change
    network=$(network_of "$mac")
    id=$(id_of "$network")
    existing+=("$id")
    [[ -z $id ]] || compare "$mac" "$network" "$id" || differs=yes
  done
  [[ -z $differs ]] || exit $EXIT_DIFFERS
  local index
  for index in "${!chosen[@]}"; do
    mac=${chosen[index]}
    network=$(network_of "$mac")
    bring_up "${iface_of[$mac]}" "$mtu"
    [[ -z $persist ]] || persist_link "$mac"
    warn_of_addresses "${iface_of[$mac]}"
    if [[ -z ${existing[index]} ]]; then
      create "$mac" "$network"
    else
      say "network $network: exists and is correct; not changed"
    fi
  done
}

main "$@"
