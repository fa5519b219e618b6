/** What EC2 says of an ENI: room, its subnet, the rights of this host, and the time. */
import type { CloudEni, CloudSubnet } from '../../cloud/cloud.ts';
import type { DryRunAnswer, Rights } from '../../cloud/dry-run.ts';
import { CLOCK_AHEAD_MS_MAX } from '../../cloud/ec2-time.ts';
import type { InstanceId } from '../../domain/ids.ts';
import { broken, notChecked, ok, type Verdict, warning } from '../finding.ts';

/** Of the ENI in the ledger; null: there is no ledger, or it does not know the ENI. */
export type Ready = number | null;

/** `limit`: addresses that the ENI may hold, its primary included; null: EC2 does not say. */
export function judgeRoom(eni: CloudEni, limit: number | null, ready: Ready): Verdict {
  const used = 1 + eni.secondaries.length + eni.prefixes.length;
  if (limit === null)
    return notChecked(
      `${eni.id} holds ${used} addresses; its limit is not known`,
      'allow ec2:DescribeInstances and ec2:DescribeInstanceTypes, or go without: it is learned from refusals',
    );
  const shown = `${eni.id} holds ${used} of ${limit} addresses`;
  if (used < limit) return ok(`${shown}, ${limit - used} more can be assigned`);
  if (ready !== null && ready > 0) return ok(`${shown}, ${ready} of them ready for containers`);
  const fix =
    'stop a container, attach another ENI, or use an instance type that takes more addresses per ENI';
  return ready === 0
    ? broken(`${shown}, and none is ready: no container can start`, fix)
    : warning(`${shown}: containers can have only those`, fix);
}

/** The part of a subnet below which it is nearly full. */
const FEW = 0.05;

export function judgeSubnet({ id, cidr, available }: CloudSubnet, ready: Ready): Verdict {
  const size = cidr.last - cidr.first + 1;
  const fix = `ec2-ipam recycle ${id}, or use a larger subnet`;
  const shown = `${id} has ${available} of ${size} addresses free`;
  if (available === 0 && (ready ?? 0) === 0) return broken(`${shown}: no container can start`, fix);
  return available <= size * FEW ? warning(shown, fix) : ok(shown);
}

export function judgeAttachment(eni: CloudEni, instance: InstanceId): Verdict | null {
  if (eni.instance === instance) return null;
  return broken(
    `EC2 shows ${eni.id} ${eni.instance === null ? 'attached to nothing' : `on ${eni.instance}`}, not on ${instance}`,
    `attach ${eni.id} to this instance`,
  );
}

const POLICY =
  'give the role the policy of scripts/provision/iam, and the ENI its tag: see scripts/provision/README.md, IAM';

export function judgeRights({ unassign, assign }: Rights): Verdict[] {
  if (unassign.kind === 'ignored' || assign?.kind === 'ignored')
    return [
      notChecked(
        'the EC2 endpoint does not know DryRun, so it was not asked for the right to assign',
        'on real EC2 nothing; this is another endpoint: see AWS_ENDPOINT_URL_EC2',
      ),
    ];
  const found = [judgeRight('ec2:UnassignPrivateIpAddresses', unassign)];
  if (assign !== null) found.push(judgeRight('ec2:AssignPrivateIpAddresses', assign));
  else if (unassign.kind === 'denied')
    found.push(notChecked('ec2:AssignPrivateIpAddresses is asked for only after the right to unassign'));
  return found;
}

function judgeRight(right: string, answer: DryRunAnswer): Verdict {
  if (answer.kind === 'allowed') return ok(`${right} is allowed on it`);
  if (answer.kind === 'denied') return broken(`${right} is denied on it`, POLICY);
  const code = answer.kind === 'other' ? answer.code : 'nothing';
  return notChecked(`${right}: EC2 answers ${code} to DryRun`);
}

/** A time that another clock shows is this much too old, or too coarse: EC2 tells whole seconds. */
const COARSE_MS = 2_000;
const SET_RIGHT = "set this host's clock right, for example with chrony (on EC2: server 169.254.169.123)";

/** `aheadMs`: how far the clock of this host is ahead of EC2's; null: EC2 did not say. */
export function judgeClock(aheadMs: number | null): Verdict {
  if (aheadMs === null) return notChecked("EC2's time is not known: it did not answer, or without its Date");
  const seconds = Math.round(Math.abs(aheadMs) / 1000);
  if (aheadMs > CLOCK_AHEAD_MS_MAX)
    return broken(
      `the clock of this host is ${seconds} s ahead of EC2's: no change of EC2 is sent`,
      SET_RIGHT,
    );
  if (aheadMs < -CLOCK_AHEAD_MS_MAX - COARSE_MS)
    return warning(`the clock of this host is ${seconds} s behind EC2's`, SET_RIGHT);
  return ok("the clock of this host is EC2's");
}

/** The same for the store. */
export function judgeStoreClock(aheadMs: number): Verdict {
  const seconds = Math.round(Math.abs(aheadMs) / 1000);
  if (seconds * 1000 <= CLOCK_AHEAD_MS_MAX) return ok("the clock of this host is the store's");
  return warning(
    `the clock of this host is ${seconds} s ${aheadMs > 0 ? 'ahead of' : 'behind'} the store's, whose clock decides`,
    'set both clocks right, for example with chrony',
  );
}
