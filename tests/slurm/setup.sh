#!/usr/bin/env bash
# Set up Slurm on this machine alone (Debian or Ubuntu, as root), and run a sweep on it:
#   tests/slurm/setup.sh            # installs, starts, and runs tests/launchers/engines.py slurm with `python`
#   tests/slurm/setup.sh --stop     # ends the daemons that this script has started
# GPUs are not configured: the sweep of the test runs on the processor.
set -euo pipefail
state=${SLURM_STATE:-/tmp/slurm-one-node}
here=$(cd "$(dirname "$0")" && pwd)

stop() {
  for daemon in slurmd slurmctld munged; do
    if [ -f "$state/$daemon.pid" ]; then kill "$(cat "$state/$daemon.pid")" 2>/dev/null || true; fi
  done
}
if [ "${1:-}" = --stop ]; then stop; exit; fi

if ! command -v slurmctld >/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
fi
mkdir -p "$state/spool" "$state/ctld" /run/munge
chown munge /run/munge
[ -f /etc/munge/munge.key ] || { dd if=/dev/urandom of=/etc/munge/munge.key bs=1 count=1024 status=none; chown munge /etc/munge/munge.key; chmod 400 /etc/munge/munge.key; }
host=$(hostname -s)
cat > "$state/slurm.conf" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
StateSaveLocation=$state/ctld
SlurmdSpoolDir=$state/spool
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdLogFile=$state/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SlurmctldTimeout=30
InactiveLimit=0
KillWait=30
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$state/slurm.conf
stop
sleep 1
runuser -u munge -- munged --pid-file=/run/munge/munged.pid 2>"$state/munged.log" || cat "$state/munged.log"
cp /run/munge/munged.pid "$state/munged.pid"
slurmctld -c
slurmd -c
for _ in $(seq 30); do
  if sinfo -h -o %T 2>/dev/null | grep -q idle; then break; fi
  sleep 1
done
sinfo
echo "export SLURM_CONF=$SLURM_CONF"
python "$here/../launchers/engines.py" slurm
