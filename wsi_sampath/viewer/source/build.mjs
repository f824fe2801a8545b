// Builds the page: `node build.mjs [FOLDER]`, by default into ../static.
//
// Every output is decided by the sources and the lock file alone, so that a second build gives the
// same bytes. built.json says what was built from what.
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const source = dirname(fileURLToPath(import.meta.url));
const target = resolve(process.argv[2] ?? join(source, "..", "static"));

const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

/** The files that decide the page, by their names from here. */
function sources() {
  const inside = readdirSync(join(source, "src"), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(source.length + 1));
  return ["build.mjs", "package-lock.json", "package.json", "tsconfig.json", ...inside].sort();
}

/** The licences of what is bundled. */
function licences() {
  const { dependencies } = JSON.parse(readFileSync(join(source, "package.json"), "utf8"));
  return Object.keys(dependencies)
    .sort()
    .map((name) => {
      const folder = join(source, "node_modules", name);
      const about = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
      const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
      const text = readFileSync(join(folder, file), "utf8").trimEnd();
      return `${about.name} ${about.version} (${about.license})\n${about.homepage}\n\n${text}\n`;
    })
    .join("\n" + "-".repeat(80) + "\n\n");
}

async function main() {
  const bundle = await build({
    absWorkingDir: source,
    entryPoints: { viewer: "src/main.ts" },
    bundle: true,
    minify: true,
    format: "iife",
    target: "es2022",
    charset: "utf8",
    legalComments: "none",
    banner: { js: "/* Third-party licences: THIRD_PARTY_LICENSES.txt */" },
    outdir: target,
    write: false,
  });
  const style = await build({
    absWorkingDir: source,
    entryPoints: { viewer: "src/style/viewer.css" },
    bundle: true,
    minify: true,
    target: "es2022",
    charset: "utf8",
    outdir: target,
    write: false,
  });
  const outputs = {
    "THIRD_PARTY_LICENSES.txt": Buffer.from(licences()),
    "index.html": readFileSync(join(source, "src", "index.html")),
    "viewer.css": Buffer.from(style.outputFiles[0].contents),
    "viewer.js": Buffer.from(bundle.outputFiles[0].contents),
  };
  mkdirSync(target, { recursive: true });
  for (const [name, bytes] of Object.entries(outputs)) {
    writeFileSync(join(target, name), bytes);
  }
  const built = {
    sources: Object.fromEntries(
      sources().map((name) => [name, sha256(readFileSync(join(source, name)))]),
    ),
    outputs: Object.fromEntries(
      Object.entries(outputs).map(([name, bytes]) => [name, sha256(bytes)]),
    ),
  };
  writeFileSync(join(target, "built.json"), JSON.stringify(built, null, 2) + "\n");
}

await main();
