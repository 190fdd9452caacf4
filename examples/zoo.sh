#!/usr/bin/env bash
# zoo.sh DATA OUTPUTS [SECONDS]: train the nets of docs/zoo.md, all at once on one GPU, and attack each in the regimes
# paper and strong. After SECONDS (default: a day), or on Ctrl-C, every training saves its state; the same command goes on.
#
# DATA holds cifar-10-batches-py/, gtsrb/, outliers/tiny_imagenet_32x32.npy (32,000 images), dtd/, places365/,
# standin_lsun_crop/ and standin_lsun_resize/. JOBS=2: at most two trainings at a time (on a CPU: one for each core).
# ONLY='cifar10 aloe 60': the lines below that match. HELPER: weights of Original on CIFAR-10, for HALO (default: those of the zoo).
set -u
D=$(realpath "$1") O=$(realpath -m "$2") END=$(($(date +%s) + ${3:-86400}))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} D O END
mkdir -p "$O/logs"

train() { # EXPERIMENT OBJECTIVE EPOCHS [overrides]: one net, its evaluation, and its evaluation by the strong attack
  local log=$O/logs/$1-$2-$3.log left
  for regime in "" "attack=strong attack.eval.preset=quick"; do
    left=$((END - $(date +%s)))
    [ "$left" -gt 5 ] || return
    # shellcheck disable=SC2086
    timeout --signal=TERM "$left" python3 -m aloe_lightning "+experiment=$1" +scale=fast net=small "objective=$2" \
      "trainer.max_epochs=$3" "study=zoo-$1-$3" paths.data="$D" paths.outputs="$O" paths.verify=false \
      outliers=npy outliers.name=tiny_imagenet_32x32 outliers.path="$D/outliers/tiny_imagenet_32x32.npy" \
      'ood=[textures,places365]' "+ood.crop=$D/standin_lsun_crop" "+ood.resize=$D/standin_lsun_resize" \
      evaluation.max_id=1000 evaluation.max_ood=400 "${@:4}" $regime >>"$log" 2>&1 || return
  done
}
export -f train
echo "zoo.sh: until $(date -d "@$END" +%T); logs in $O/logs"
grep -E "${ONLY:-.}" <<LINES | xargs -P "${JOBS:-99}" -d '\n' -I{} bash -c '{}; echo "$(date +%T) ended: {}"'
train cifar10 aloe 60
train cifar10 original 60
train cifar10 oe 60
train cifar10 adv 60
train cifar10 aoe 60
train cifar10 halo 60 objective.helper=${HELPER:-zoo:cifar10-original-small}
train gtsrb aloe 3
train gtsrb original 3
train gtsrb oe 3
train gtsrb adv 3
train gtsrb aoe 3
train cifar10 aloe 15 net=densenet tf32=true
train cifar10 oe 15 net=densenet tf32=true
LINES
