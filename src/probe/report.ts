/** What a probe and a check print. */
import { actionOf } from '../cloud/verbatim.ts';
import { formatCidr } from '../domain/address.ts';
import { type Comparison, differencesOf, meaningOf } from './check.ts';
import type { Facts } from './facts.ts';
import { CALLS_MAX, CHANGES_MAX } from './meter.ts';
import type { Outcome, planOf, Tried, Verdict } from './probe.ts';
import type { Call } from './steps.ts';

const NAMES_SHOWN_MAX = 3;

export function planText(facts: Facts, plan: ReturnType<typeof planOf>, ledger: string): string {
  const { eni, subnet, cidr, primary, limit, instanceType } = facts;
  const room = limit === null ? 'limit not known' : `${limit} addresses at most (${instanceType})`;
  return [
    `${eni} in ${subnet}, ${formatCidr(cidr)}: primary ${primary}, ${room}`,
    ledger,
    `${CALLS_MAX} calls at most, one a second, ${CHANGES_MAX} of them changing; none costs money or moves an address of another ENI:`,
    ...plan.map(({ step: { name }, call }) =>
      typeof call === 'string' ? `  ${name}: left out, ${call}` : `  ${name}: ${callText(call)}`,
    ),
    '',
  ].join('\n');
}

function callText(call: Call): string {
  if (call.verb === 'describe') return `DescribeNetworkInterfaces ${call.eni}`;
  const { names, eni } = call;
  const more = names.length > NAMES_SHOWN_MAX ? ` and ${names.length - NAMES_SHOWN_MAX} more` : '';
  return `${actionOf(call)} ${names.slice(0, NAMES_SHOWN_MAX).join(' ')}${more} on ${eni}`;
}

export function outcomeText({ tried, leftOut }: Outcome): string {
  const differing = tried.filter(
    ({ seen, expected }) => seen === undefined || differs(expected, seen) !== '',
  );
  return [
    ...tried.map(triedText),
    ...leftOut.map(({ name, why }) => `${name}\n  left out  ${why}\n`),
    `${tried.length} tried, ${differing.length} otherwise than expected, ${leftOut.length} left out\n`,
  ].join('\n');
}

function triedText({ name, call, because, expected, seen, ours, shownAfterMs }: Tried): string {
  const difference = seen === undefined ? '' : differs(expected, seen);
  return [
    name,
    `  call      ${callText(call)}`,
    `  expected  ${verdictText(expected)}${expected === null ? '' : ` = ${meaningOf(expected)}`} (${because})`,
    `  seen      ${seen === undefined ? 'no answer' : verdictText(seen)}`,
    `  taken as  ${ours}`,
    ...(difference === '' ? [] : [`  DIFFERS   ${difference}`]),
    ...(shownAfterMs === undefined ? [] : [`  shown     ${delayText(shownAfterMs)}`]),
    '',
  ].join('\n');
}

const differs = (expected: Verdict, seen: Verdict): string => differencesOf(seen, expected).join(', ');
const verdictText = (verdict: Verdict): string =>
  verdict === null ? 'done' : inLine(`${verdict.code}: ${verdict.text}`);

/** EC2's texts and what is in a transcript are from others: none begins a line of its own. */
const inLine = (text: string): string => text.replace(/\s+/g, ' ');
const delayText = (ms: number | null): string =>
  ms === null
    ? 'by no description in the time'
    : `by a description ${(ms / 1000).toFixed(1)} s later at most`;

export function comparisonText({ compared, notCompared, delays }: Comparison): string {
  const differing = compared.filter(one => one.differs.length > 0);
  return [
    ...compared.map(({ name, ec2, simulator, differs: what }) =>
      what.length === 0
        ? `same     ${inLine(name)}\n`
        : `DIFFERS  ${inLine(name)}: ${what.join(', ')}\n  EC2        ${verdictText(ec2)} = ${meaningOf(ec2)}\n  simulator  ${verdictText(simulator)} = ${meaningOf(simulator)}\n`,
    ),
    ...notCompared.map(({ name, why }) => `not compared  ${inLine(`${name}: ${why}`)}\n`),
    ...delays.map(({ name, shownAfterMs }) => `delay    ${inLine(name)}: shown ${delayText(shownAfterMs)}\n`),
    `${compared.length} compared, ${differing.length} differ, ${notCompared.length} not compared\n`,
  ].join('');
}
