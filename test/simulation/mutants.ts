import type { OperationName } from './plan.ts';

/** Small wrong changes to the real code, each of which the simulation must find: by breaking a rule, not by a
 *  crash. */
export interface Mutant {
  readonly name: string;
  readonly file: string;
  /** Occurs once in the file. */
  readonly find: string;
  readonly replace: string;
  /** Operations that are to be drawn more often, where few histories would show it; much more often, if named twice. */
  readonly focus?: readonly OperationName[];
}

const CHANGES: Readonly<Record<string, Omit<Mutant, 'name'>>> = {
  // The compare-and-set.
  'a claim without compare-and-set': {
    file: 'src/domain/allocation.ts',
    find: 'if (!isStill(row, change.row) || row.status !== rule.from) return null;',
    replace:
      "if (change.move !== 'claim' && (!isStill(row, change.row) || row.status !== rule.from)) return null;",
  },
  'the generation left out of a comparison': {
    file: 'src/domain/allocation.ts',
    find: 'row.iface === state.iface &&\n  row.generation === state.generation;',
    replace: 'row.iface === state.iface;',
  },
  'the keeper unassigns what was claimed meanwhile': {
    file: 'src/ipam/ec2/unassign.ts',
    find: '  const { intents, sendBefore } = await write(context, changes, call);\n',
    replace: `  const { intents: written, sendBefore } = await write(context, changes, call);
  const asked = changes.filter(one => one.move === 'unassign').map(one => one.row as Allocation);
  const intents = [...written, ...asked.filter(row => !written.some(one => one.ip === row.ip))];
`,
  },
  'a shared commit answers one caller with what another moved': {
    file: 'src/store/group-commit.ts',
    find: 'call.resolve(call.keys.flatMap(key => moved.get(key) ?? []))',
    replace: 'call.resolve([...moved.values()])',
  },
  "a stranger's lock fails all who wait": {
    focus: ['stranger locks rows', 'stranger locks rows', 'crowd hangs up', 'crowd hangs up'],
    file: 'src/store/group-commit.ts',
    find: 'if (error instanceof LockedError) await split(batch, error.tell);',
    replace: 'if (error instanceof LockedError) fail(batch, error.tell([]));',
  },
  // Tenants.
  'what a tenant has is not counted before more is assigned': {
    file: 'src/store/memory.ts',
    find: '!startsToCount(change.move) || roomOf',
    replace: "!startsToCount(change.move) || change.move === 'assign' || roomOf",
  },
  'what EC2 is being asked for does not count': {
    file: 'src/domain/tenant.ts',
    find: "  'assigning',\n",
    replace: '',
  },
  // Holders.
  'RequestPool flushes': {
    file: 'src/ipam/pools.ts',
    find: '    warm.wanted({ home, range });\n',
    replace: `    warm.wanted({ home, range });
    const { rows } = await context.store.onEni(eni.id);
    const held = rows.filter(row => row.status === 'allocated');
    await context.store.move(held.map(row => ({ row, move: 'release' as const })));
`,
  },
  'ReleasePool flushes': {
    file: 'src/ipam/pools.ts',
    find: '    await enis.released(eni);\n',
    replace: `    await enis.released(eni);
    const { rows } = await context.store.onEni(eni);
    const held = rows.filter(row => row.status === 'allocated');
    await context.store.move(held.map(row => ({ row, move: 'release' as const })));
`,
  },
  'a release without a look at the owner': {
    file: 'src/ipam/request/release.ts',
    find: 'row !== undefined && row.iface === home.eni.id && ip !== home.eni.primary',
    replace: 'row !== undefined && ip !== home.eni.primary',
  },
  'a release believes what its server remembers of holders': {
    file: 'src/domain/holding.ts',
    find: "  if (tried?.isRead) return 'later';\n",
    replace: "  if (tried !== null) return 'later';\n",
  },
  'a release without an answer does not find out whether it was made': {
    focus: ['release has no answer', 'release has no answer'],
    file: 'src/domain/holding.ts',
    find: "  if (isMade(row, id)) return 'made';\n",
    replace: '',
  },
  'a release that comes late ends whatever holding it finds': {
    file: 'src/domain/holding.ts',
    find: "return 'kept';\n",
    replace: "return 'meant';\n",
  },
  'a named request overtakes the release that its server has in hand': {
    file: 'src/ipam/request/named.ts',
    find: 'row.iface === home.eni.id && releasing !== null) {',
    replace: 'row.iface === home.eni.id && releasing !== null && row.primary) {',
  },
  'a holder is given up because one read does not show the address': {
    file: 'src/domain/drift.ts',
    find: "ours(row.iface) ? found('missing', null) : null;",
    replace: "ours(row.iface) ? found('missing', { move: 'retire' }) : null;",
  },
  'a repair that fails frees': {
    file: 'src/ipam/ec2/recover.ts',
    find: '  if (!isRefusal(error)) return 0;\n',
    replace: "  await store.move(sent.map(change('retire')));\n  if (!isRefusal(error)) return 0;\n",
  },
  'what is missing is not repaired': {
    file: 'src/ipam/sync/reconcile.ts',
    find: 'repair(urgent, missing.slice(0, REPAIRS_MAX))',
    replace: 'repair(urgent, missing.slice(0, 0))',
  },
  'what is given up while a repair may be under way is ready at once': {
    file: 'src/domain/allocation.ts',
    find: "missing: 'mark', repair: 'send', goesOn: true",
    replace: 'goesOn: true',
    focus: ['repairs have no answer', 'repairs have no answer'],
  },
  'a repair without an answer is forgotten when a later one has brought the address back': {
    file: 'src/ipam/ec2/unassign.ts',
    find: '!mayComeBack(row, policy, now);',
    replace: '!mayComeBack(row, policy, Number.POSITIVE_INFINITY);',
    focus: ['repairs have no answer', 'repairs have no answer'],
  },
  'one address that cannot be repaired keeps the others away': {
    file: 'src/ipam/ec2/recover.ts',
    find: '  if (left.length <= 1) return 0;\n',
    replace: '  if (left.length >= 1) return 0;\n',
  },
  'a holder is given up on proof of one look': {
    file: 'src/domain/eni-departure.ts',
    find: 'gone: 600_000,\n  detached: 300_000,',
    replace: 'gone: 0,\n  detached: 0,',
  },
  'a release or a request takes over the ENI that it names': {
    file: 'src/ipam/ec2/enis.ts',
    find: '    if (context.host.instance === null) return null;\n',
    replace: '',
  },
  // Whose client it is.
  'what is not found from anywhere is off its ENI': {
    file: 'src/ipam/ec2/unassign.ts',
    find: "(isError(error, 'ec2-not-found') && (await isGone(context, eni))) ||",
    replace: "isError(error, 'ec2-not-found') ||",
  },
  'an ENI that is not found from anywhere is gone': {
    focus: ['server at a wrong place', 'server at a wrong place', 'run'],
    file: 'src/ipam/sync/holders.ts',
    find: "return (await isGone(context, eni)) ? { kind: 'gone' } : undefined;",
    replace: "return { kind: 'gone' };",
  },
  'what nobody shows a stranger is on no ENI': {
    file: 'src/ipam/sync/reconcile.ts',
    find: 'return seen.isProved ? drifts :',
    replace: 'return seen.enis.size >= 0 ? drifts :',
  },
  'any account proves what is gone': {
    file: 'src/ipam/ec2/account.ts',
    find: 'return (await context.cloud.someEni({ owner: identity.account, vpc: subnet.vpc, but: id })) !== null;',
    replace: 'return (await context.cloud.someEni({ vpc: subnet.vpc, but: id })) !== null;',
  },
  'the command reconcile asks nothing about whose client it is': {
    focus: ['reconcile', 'server at a wrong place'],
    file: 'src/cli/commands/reconcile.ts',
    find: '    await checkIdentity(context);\n    await refuseUnproved(context);\n',
    replace: '',
  },
  'the command reconcile closes what a dry run finds': {
    focus: ['reconcile', 'stranger assigns'],
    file: 'src/cli/commands/reconcile.ts',
    find: '      if (dryRun) continue;\n',
    replace: '',
  },
  'an ENI of another account is adopted': {
    focus: ['adopt', 'network create'],
    file: 'src/ipam/ec2/account.ts',
    find: 'if (eni.owner !== null && eni.owner !== identity.account)',
    replace: "if (eni.owner !== null && eni.owner === '')",
  },
  'what is on an adopted ENI stays occupied for ever': {
    focus: ['ledger rebuilt', 'run'],
    file: 'src/domain/allocation.ts',
    find: "return row.absentSince === null ? 'surrender' : 'vacated';",
    replace: "return row.absentSince === null ? null : 'vacated';",
  },
  "EC2's clock compared with the ledger's": {
    focus: ['eni attached anew', 'store clock steps back'],
    file: 'src/ipam/sync/holders.ts',
    find: '      const { claimsEndBefore } = known;\n',
    replace: '      const claimsEndBefore = known.claimsEndBefore && (attachedAt ?? 0) - 60_000;\n',
  },
  // A caller that has gone.
  'the undo on hang-up left out': {
    file: 'src/http/answer.ts',
    find: '  await undo();\n',
    replace: '',
  },
  'the undo done after the write': {
    file: 'src/http/answer.ts',
    find: '  if (why === null) return send(c, body);\n',
    replace:
      '  if (why === null) {\n    const sent = send(c, body);\n    await undo();\n    return sent;\n  }\n',
  },
  'undoing one claim forgets another that is undone at the same time': {
    focus: ['crowd hangs up'],
    file: 'src/ipam/request/rollback.ts',
    find: '      waiting.delete(claimKeyOf(claimed));\n      log(',
    replace: '      for (const key of [...waiting.keys()].slice(-1)) waiting.delete(key);\n      log(',
  },
  // EC2's answers.
  'a lost reply to an assign taken for a refusal': {
    file: 'src/ipam/ec2/assign.ts',
    find: '  if (!isRefusal(error)) {\n    followUps',
    replace: '  if (!isRefusal(error) && !error) {\n    followUps',
  },
  'a lost reply to an assign taken for success': {
    file: 'src/ipam/ec2/assign.ts',
    find: '  if (error === null) return { ...none, ready',
    replace: "  if (error === null || isError(error, 'ec2-unknown')) return { ...none, error: null, ready",
  },
  'a lost reply to an unassign taken for success': {
    file: 'src/ipam/ec2/unassign.ts',
    find: '  if (error === null || gone) {\n    const unsure',
    replace: "  if (error === null || gone || isError(error, 'ec2-unknown')) {\n    const unsure",
  },
  'a refused batch taken for assigned': {
    file: 'src/ipam/ec2/assign.ts',
    find: "row => !guilty.includes(row)).map(change('refused', { ec2 }))",
    replace: "row => !guilty.includes(row)).map(change('assigned', { ec2 }))",
  },
  'retries left on for what changes something': {
    file: 'src/cloud/rate-limiter.ts',
    find: 'CHANGES.includes(action) ? sent(action, send) : read(action, send, { urgency, turn });',
    replace: 'read(action, send, { urgency, turn });',
  },
  'a call sent however old its intent is': {
    focus: ['server freezes'],
    file: 'src/cloud/memory.ts',
    find: 'if (deadlineClock() >= sendBefore)',
    replace: 'if (deadlineClock() >= sendBefore + 3_600_000)',
  },
  'time that passes while the context sleeps does not count': {
    focus: ['server sleeps'],
    file: 'src/domain/clock.ts',
    find: 'return now + aheadMs;',
    replace: 'return now;',
  },
  'a time of day that is set back gives a call more time': {
    focus: ['server clock steps'],
    file: 'src/domain/clock.ts',
    find: 'return now + aheadMs;',
    replace: 'return timeOfDay();',
  },
  'any InvalidParameterValue means that the address is taken': {
    file: 'src/cloud/refusals.ts',
    find: "    code: 'ec2-invalid',\n",
    replace: "    code: 'ec2-taken',\n",
  },
  'a call signed for the future': {
    focus: ['server clock steps'],
    file: 'src/cloud/memory.ts',
    find: 'if (aheadMs > CLOCK_AHEAD_MS_MAX) throw clockAhead(action, aheadMs);',
    replace: '',
  },
  'a call without an answer is waited for': {
    file: 'src/domain/unanswered.ts',
    find: 'export const ANSWERED_WITHIN_MS = 2_000;',
    replace: 'export const ANSWERED_WITHIN_MS = 9_000;',
  },
  'addresses in doubt take places of the ENI': {
    file: 'src/ipam/pool/refill.ts',
    find: 'const taken = placesOf(row => !inDoubt.includes(row));',
    replace: 'const taken = placesOf(() => true);',
  },
  'what a read shows on its ENI stays in doubt': {
    file: 'src/ipam/ec2/survey.ts',
    find: '    .filter(batch => batch.every(isThere))\n',
    replace: '    .filter(batch => batch.length === 0)\n',
  },
  'a part of a batch on the ENI is taken for the call': {
    file: 'src/ipam/ec2/survey.ts',
    find: '    .filter(batch => batch.every(isThere))\n    .flat()\n',
    replace: '    .flat()\n    .filter(isThere)\n',
    focus: ['stranger assigns', 'stranger assigns', 'call hangs', 'call applies late', 'run'],
  },
  'no call while one has had no answer': {
    file: 'src/domain/unanswered.ts',
    find: "if (at === Number.NEGATIVE_INFINITY) return 'all';",
    replace: "if (at === Number.NEGATIVE_INFINITY) return 'none';",
  },
  'what EC2 refuses in unknown words is taken for occupied': {
    file: 'src/ipam/ec2/assign.ts',
    find: "    isError(error, 'ec2-invalid')\n      ? change(",
    replace: "    isError(error, 'ec2-limit')\n      ? change(",
  },
  'what EC2 refuses on one ENI is kept from all': {
    file: 'src/ipam/request/claim-free.ts',
    find: '  if ((await choose(1)).rows.length === 0) return null;\n',
    replace: '  if ((await choose(1)).rows.length >= 0) return null;\n',
  },
  'what EC2 says in unknown words is taken for a full subnet': {
    file: 'src/ipam/pool/refill.ts',
    find: "  if (!isError(error, 'ec2-limit')) throw error;\n",
    replace: "  if (!isError(error, 'ec2-limit')) return { outcome: 'subnet full', resting: null };\n",
  },
  // Taking over.
  'a take-over without the grace': {
    file: 'src/ipam/ec2/recover.ts',
    find: 'store.intents(context.policy.graceMs, TAKE_OVER_MAX)',
    replace: 'store.intents(0, TAKE_OVER_MAX)',
  },
  'a take-over backward': {
    file: 'src/ipam/ec2/recover.ts',
    find: "row.status === 'assigning' ? 'take over' : 'unassign again'",
    replace: "row.status === 'assigning' ? 'refused' : 'unassign again'",
  },
  'an intent settled on one late read': {
    file: 'src/ipam/ec2/recover.ts',
    find: '  const { rows } = await context.store.intents(context.policy.graceMs, TAKE_OVER_MAX);\n',
    replace: `  const { rows: young } = await context.store.intents(0, TAKE_OVER_MAX);
  const [first] = young;
  const seen = first === undefined
    ? new Map()
    : await context.cloud.carriers(first.subnet, ipsOf(young)).catch(() => new Map());
  const unseen = young.filter(row => row.status === 'assigning' && !seen.has(row.ip));
  await context.store.move(unseen.map(change('refused')));
  const { rows } = await context.store.intents(context.policy.graceMs, TAKE_OVER_MAX);
`,
  },
  // Rest.
  'quarantine ignored': {
    file: 'src/domain/allocation.ts',
    find: 'row.restedFrom === eni ? rest.cooldownMs : rest.quarantineMs',
    replace: 'rest.cooldownMs',
  },
  'cooldown ignored': {
    file: 'src/ipam/pool/cache.ts',
    find: 'if (rested && (best === null',
    replace: 'if ((best === null',
  },
  'an address returns to the ENI that it has just left': {
    file: 'src/domain/allocation.ts',
    find: 'unsure ? graceMs : Math.min(graceMs, LATE_READS_MS)',
    replace: 'unsure ? graceMs : 300',
  },
  'early reuse by a refill': {
    file: 'src/ipam/pool/refill.ts',
    find: "freeFor(context, { eni, subnet }, range, 'rested', ",
    replace: "freeFor(context, { eni, subnet }, range, 'any', ",
  },
  'early reuse with --strict-reuse': {
    file: 'src/ipam/request/allocate.ts',
    find: 'const reused = policy.strictReuse ? null : await claimResting(asked, filled);',
    replace: 'const reused = await claimResting(asked, filled);',
  },
  // What others do.
  'the primary address forgotten': {
    file: 'src/ipam/ec2/survey.ts',
    find: '[eni.primary, { eni: eni.id, primary: true }]',
    replace: '[eni.primary, { eni: eni.id, primary: false }]',
  },
  'an ENI adopted without a look at what others put there': {
    focus: ['ledger rebuilt', 'adopt', 'stranger assigns'],
    file: 'src/ipam/ec2/survey.ts',
    find: 'new Map<Ipv4, Sighting>(enis.flatMap(sightingsOn));',
    replace: 'new Map<Ipv4, Sighting>(enis.flatMap(sightingsOn).filter(([, at]) => at.primary));',
  },
  'occupied without a way out': {
    file: 'src/domain/drift.ts',
    find: "return longEnough ? found('vacated', { move: 'vacated' }) : null;",
    replace: 'return longEnough ? null : null;',
  },
  'what is ready is given up on a read that may be late': {
    focus: ['reconcile reads late', 'reconcile reads late', 'run'],
    file: 'src/domain/drift.ts',
    find: '(at.eni === row.iface ? at.primary : settled)',
    replace: '(at.eni !== row.iface || at.primary)',
  },
  'an ENI without an IPv4 address stops its subnet': {
    file: 'src/cloud/memory.ts',
    find: 'yield page.enis.flatMap(eni => cloudEni(eni, vpc.now()) ?? []);',
    replace: `yield page.enis.map(eni => {
        const shown = cloudEni(eni, vpc.now());
        if (shown === null) throw withoutIpv4(eni.id);
        return shown;
      });`,
  },
  'what was on another ENI just now is given at once': {
    file: 'src/ipam/ec2/assign.ts',
    find: 'policy.confirmMoves ? intents.filter(isFromElsewhere) : [];',
    replace:
      'policy.confirmMoves ? intents.filter(row => isFromElsewhere(row) && row.status !== row.status) : [];',
  },
  // ENIs that leave the instance of an embedded ledger.
  'what is on an ENI that has left is asked of EC2': {
    file: 'src/ipam/ec2/unassign.ts',
    find: '  if (instance === null) return true;\n',
    replace: '  if (eni !== null) return true;\n',
  },
  'what is on an ENI is let go on one look': {
    file: 'src/ipam/sync/reconcile.ts',
    find: 'context.host.instance === null ? new Set<EniId>() : left;',
    replace: `context.host.instance === null
      ? new Set<EniId>()
      : new Set(seen.known.filter(eni => eni.instance !== context.host.instance).map(eni => eni.id));`,
  },
  'what is ready on an ENI that has left stays so': {
    file: 'src/ipam/sync/reconcile.ts',
    find: "(instance !== null && status !== 'occupied' && !ours.has(iface))",
    replace: '(instance !== null && status !== status)',
  },
  'what is under way on an ENI that has left is let go at once': {
    file: 'src/domain/drift.ts',
    find: '  if (now - movedAt < graceMs) return null;\n',
    replace: '  if (now < movedAt) return null;\n',
  },
  'an ENI that is attached to another instance goes on being ours': {
    file: 'src/ipam/sync/holders.ts',
    find: 'if (attachment === null || isElsewhere)',
    replace: 'if (attachment === null || (isElsewhere && attachedAt === null))',
  },
  'a subnet all of whose ENIs have left is forgotten': {
    file: 'src/ipam/sync/keeper.ts',
    find: '.some(eni => eni.ours && eni.subnet === subnet);',
    replace: '.some(eni => eni.subnet === subnet && oursIn([eni], context.host.instance).length > 0);',
  },
  // Evidence of a host.
  'one reading is believed': {
    file: 'src/domain/witness.ts',
    find: 'export const WITNESS_AGE_MS = 120_000;',
    replace: 'export const WITNESS_AGE_MS = 0;',
  },
  'an answer in hand is given, however long ago its claim was': {
    file: 'src/http/answer.ts',
    find: ' : isStale() ? SUSPENDED : null;',
    replace: ' : isStale() && caller.isGone() ? SUSPENDED : null;',
    focus: ['server is suspended with a claim'],
  },
  'a leak is only reported': {
    file: 'src/ipam/sync/witnessed.ts',
    find: "    if (mode === 'report') {\n",
    replace: '    if (mode.length > 0) {\n',
    focus: ['docker forgets', 'run'],
  },
  'a host speaks for the ENIs of others': {
    file: 'src/ipam/sync/testimony.ts',
    find: 'await enisOf(host)',
    replace: '(await enisOf(host)) && (await store.enis()).filter(eni => eni.ours)',
    focus: ['host boasts', 'run'],
  },
  'what was given anew since a reading began is released': {
    file: 'src/ipam/sync/witnessed.ts',
    find: '    const moved = await store.move(\n      left.map(\n',
    replace: `    const rows = new Map<string, Allocation>();
    for (const { id } of round.enis) for (const row of (await store.onEni(id)).rows) rows.set(row.ip, row);
    const moved = await store.move(
      left.map(leak => ({ ...leak, row: rows.get(leak.row.ip) ?? leak.row })).map(
`,
    focus: ['docker forgets', 'leak given anew', 'run'],
  },
  // Bounds.
  'the bound of an outage ignored': {
    file: 'src/ipam/request/retry.ts',
    find: 'const until = Math.max(deadline(startedAt), leastUntil);',
    replace: 'const until = Math.max(deadline(clock()), leastUntil);',
  },
  'every try of a request has the whole bound': {
    file: 'src/ipam/request/allocate.ts',
    find: 'outage.retryWhile(isEc2Away, work, { ...options, leastUntil });',
    replace: 'outage.retryWhile(isEc2Away, work, { caller: options.caller });',
  },
  'a request that comes late in an outage does not get what was assigned for it': {
    file: 'src/ipam/request/allocate.ts',
    find: '        if (late) lastTries++; // addresses were assigned for this request\n',
    replace: '        if (late) throw contended(asked);\n',
  },
  // Agents and certificates.
  'a client with a certificate may use every ENI': {
    focus: ['host trespasses', 'eni moved between hosts'],
    file: 'src/ipam/request/authority.ts',
    find: 'if (instance === null) return EVERYWHERE;',
    replace: "if (instance !== ('' as unknown)) return EVERYWHERE;",
  },
  'a client may release what was given to another instance': {
    focus: ['host trespasses', 'eni moved between hosts'],
    file: 'src/ipam/request/release.ts',
    find: "if (row?.status === 'allocated' && row.instance !== null) throw",
    replace: "if (row?.status === 'allocated' && row.primary && row.instance !== null) throw",
  },
  'what EC2 has shown of an ENI counts for ever': {
    focus: ['eni moved between hosts', 'host trespasses', 'host trespasses'],
    file: 'src/ipam/ec2/attachments.ts',
    find: 'now() - known.readAt < SHOWN_FOR_MS ? known : null;',
    replace: 'now() - known.readAt < SHOWN_FOR_MS * 1e6 ? known : null;',
  },
  'a release id is forgotten, and with it the age of the call': {
    focus: ['restart named', 'agent asks elsewhere'],
    file: 'src/ipam/request/release.ts',
    find: '    const { from } = client;\n    const id =',
    replace:
      '    client = { ...client, from: { ...client.from, id: null, sentMsAgo: 0 } };\n    const { from } = client;\n    const id =',
  },
  'a rollback takes back what the repeated request was told': {
    focus: ['agent asks elsewhere', 'run'],
    file: 'src/ipam/request/rollback.ts',
    find: 'isSameHolding(row, claimed) && row.repeatedAt === claimed.repeatedAt;',
    replace: 'isSameHolding(row, claimed);',
  },
  'a rollback is dropped when the address was missed or found meanwhile': {
    focus: ['unheard claim is repaired', 'unheard claim is repaired', 'eni moved between hosts', 'run'],
    file: 'src/ipam/request/rollback.ts',
    find: 'row.repeatedAt === claimed.repeatedAt;',
    replace: '(claimed.requestId === null || row.generation === claimed.generation);',
  },
  'the instance of a former holder counts under the claim of an old server': {
    focus: ['old server gives', 'old server gives', 'run'],
    file: 'src/domain/allocation.ts',
    find: 'row.claimedAt === null || row.claimedAt === row.movedAt',
    replace: 'row.claimedAt === null || row.claimedAt > 0',
  },
  // Ids of containers.
  'the id of a container is noted for the next holding': {
    focus: ['restart named', 'docker forgets', 'run'],
    file: 'src/domain/allocation.ts',
    find: "isStill(row, state) && row.status === 'allocated'\n",
    replace: "row.iface === state.iface && row.status === 'allocated'\n",
  },
  'the id of the container before counts under the claim of an old server': {
    focus: ['old server gives', 'run'],
    file: 'src/domain/allocation.ts',
    find: 'row.containerSince === row.movedAt ? row.containerId : null',
    replace: 'row.containerSince !== null ? row.containerId : null',
  },
  'a repeated request that nobody hears takes back what the first was told': {
    focus: ['agent asks elsewhere', 'run'],
    file: 'src/ipam/request/claim.ts',
    find: '    asked.isRepeated = true;\n',
    replace: '',
  },
};

export const MUTANTS: readonly Mutant[] = Object.entries(CHANGES).map(([name, change]) => ({
  name,
  ...change,
}));
