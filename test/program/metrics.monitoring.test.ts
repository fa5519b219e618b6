// Goal: what the shipped server tells under load is what Prometheus wants, the alerts fire, and alerts and dashboard name
// only metrics that exist. Method: promtool, on the output of the bundle before a simulated VPC.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../../scripts/tiers.ts';
import { removeFolder, tempFolder } from '../kit/folders.ts';
import { type Simulator, startBundle, startSimulator } from '../kit/servers/bundle.ts';
import { type Program, runProgram } from '../kit/servers/process.ts';
import { assert, suite } from '../kit/uvu.ts';
import { WORLD } from './requests.ts';

const MONITORING = join(ROOT, 'scripts/monitoring');
const folder = tempFolder();
let simulator: Simulator;
let server: Program;
let text = '';

const metrics = suite('metrics of the shipped server');
metrics.before(async () => {
  simulator = await startSimulator(WORLD);
  const args = ['serve', '--listen', 'http://127.0.0.1:0', '--state-dir', folder, '--log-format', 'json'];
  const more = ['--admin-listen', 'http://127.0.0.1:0', '--reconcile-every', '1s', '--docker-socket', 'off'];
  server = await startBundle([...args, ...more], simulator.env, '"ledger opened"');
  const [, docker = ''] = await server.says(/"listening on (http[^"]+)"/);
  const [, admin = ''] = await server.says(/"admin listener on (http[^"]+)"/);
  const post = async (what: string, body: unknown): Promise<Record<string, string>> => {
    const answer = await fetch(`${docker}/IpamDriver.${what}`, {
      method: 'POST',
      body: JSON.stringify(body),
    });
    return JSON.parse(await answer.text());
  };
  const eni = WORLD.enis[0]?.id ?? '';
  await post('RequestPool', { Options: { 'eni-id': eni } });
  for (let round = 0; round < 10; round++) {
    const given = await Promise.all([1, 2, 3].map(() => post('RequestAddress', { PoolID: eni })));
    for (const { Address = '' } of given)
      await post('ReleaseAddress', { PoolID: eni, Address: Address.split('/')[0] });
  }
  await post('RequestAddress', { PoolID: 'nonsense' });
  for (let tries = 0; !text.includes('ec2_ipam_last_reconcile_timestamp_seconds{') && tries < 60; tries++) {
    await new Promise(resolve => setTimeout(resolve, 1000));
    text = await (await fetch(`${admin}/metrics`)).text();
  }
});
metrics.after(async () => {
  await server?.stop();
  await simulator?.stop();
  removeFolder(folder);
});

metrics('promtool finds nothing to say', async () => {
  const file = join(folder, 'metrics.txt');
  writeFileSync(file, text);
  const { code, stdout, stderr } = await runProgram('sh', ['-c', 'promtool check metrics <"$0"', file]);
  assert.equal({ code, said: stdout + stderr }, { code: 0, said: '' });
});

metrics('the load: is in them', () => {
  for (const line of [
    /^ec2_ipam_requests_total\{method="RequestAddress",result="ok"\} 30$/m,
    /^ec2_ipam_requests_total\{method="RequestAddress",result="bad-request"\} 1$/m,
    /^ec2_ipam_ec2_requests_total\{action="AssignPrivateIpAddresses",result="ok"\} [1-9]/m,
    /^ec2_ipam_ec2_tokens\{action="AssignPrivateIpAddresses"\} [1-9]/m,
    /^ec2_ipam_addresses\{subnet="subnet-\w+",status="ready"\} [1-9]/m,
    /^ec2_ipam_warm_hits_total [1-9]/m,
    /^ec2_ipam_warm_misses_total [1-9]/m,
    /^ec2_ipam_commit_moves_count [1-9]/m,
    /^ec2_ipam_store_up 1$/m,
    /^ec2_ipam_reconcile_interval_seconds 1$/m,
    /^process_cpu_seconds_total [0-9.]*[1-9]/m,
    /^nodejs_eventloop_lag_p99_seconds [0-9.]*[1-9]/m,
    /^ec2_ipam_last_reconcile_timestamp_seconds\{subnet="subnet-\w+"\} 1[7-9]/m,
  ])
    assert.match(text, line);
});

metrics('alerts: each fires, and not without its reason', async () => {
  const rules = readFileSync(join(MONITORING, 'alerts.yml'), 'utf8');
  const tests = readFileSync(join(MONITORING, 'alerts.test.yml'), 'utf8');
  for (const [, name] of rules.matchAll(/alert: (\w+)/g))
    assert.ok(tests.includes(`alertname: ${name}`), name);
  const { code, stdout, stderr } = await runProgram('promtool', [
    'test',
    'rules',
    join(MONITORING, 'alerts.test.yml'),
  ]);
  assert.is(code, 0, stdout + stderr);
});

metrics('alerts and dashboard: name only metrics that exist', () => {
  const known = new Set([...text.matchAll(/^# TYPE (\w+)/gm)].map(([, name = '']) => name));
  const rules = readFileSync(join(MONITORING, 'alerts.yml'), 'utf8');
  const recorded = new Set([...rules.matchAll(/record: (\S+)/g)].map(([, name = '']) => name));
  const { panels } = JSON.parse(readFileSync(join(MONITORING, 'dashboard.json'), 'utf8')) as {
    panels: { targets: { expr: string }[] }[];
  };
  const exprs = panels.flatMap(({ targets }) => targets.map(({ expr }) => expr));
  const names = [rules, ...exprs].flatMap(
    expr => expr.match(/\b(?:ec2_ipam|process|nodejs)_[a-z0-9_]+|ec2_ipam:\w+/g) ?? [],
  );
  assert.ok(names.length > 30);
  for (const name of names)
    assert.ok(
      known.has(name.replace(/_(bucket|sum|count)$/, '')) || known.has(name) || recorded.has(name),
      name,
    );
  const shown = new Set(names.map(name => name.replace(/_(bucket|sum|count)$/, '')));
  for (const name of known)
    if (name.startsWith('ec2_ipam_')) assert.ok(shown.has(name), `${name} is on no dashboard`);
});
metrics.run();
