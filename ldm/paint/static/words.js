// Every word of the page, in English and Chinese. {name} is replaced by a value.

const WORDS = {
  title: ["IIDM: paint a landscape", "IIDM：画一幅风景"],
  skip: ["Skip to the canvas", "跳到画布"],
  menu: ["File", "文件"], new: ["New", "新建"], open: ["Open", "打开"], save: ["Save", "保存"],
  link: ["Copy link", "复制链接"], help: ["Keys (?)", "快捷键(?)"], close: ["Close", "关闭"],
  tools: ["Tools", "工具"], palette: ["Classes", "类别"], canvas: ["Canvas", "画布"], panels: ["Panels", "面板"],
  settings: ["Settings", "设置"], styleAndSettings: ["Style, settings", "风格与设置"], history: ["History", "历史"],
  mask: ["Mask", "分割图"], picture: ["Picture", "生成图"], view: ["View", "视图"],
  both: ["Both", "并排"], compare: ["Compare", "对比"],
  hairline: ["Line between mask and picture", "分割图与生成图的分界线"],
  brush: ["Brush (B)", "画笔（B）"], fill: ["Fill (G); with Shift all of that class", "填充（G）；按住 Shift 填充整个类别"],
  line: ["Line (L)", "直线（L）"], rect: ["Rectangle (R)", "矩形（R）"],
  lasso: ["Lasso: drag, or click corners (P)", "套索：拖动，或逐点点击（P）"],
  eraser: ["Eraser: back to the map that was loaded (E)", "橡皮：恢复载入时的图（E）"],
  pick: ["Pick a class (I, or Alt-click)", "吸管（I，或按住 Alt 点击）"], hand: ["Move (hold Space)", "移动（按住空格）"],
  brushSize: ["Brush size", "画笔大小"], pressure: ["Size by pen pressure", "笔压改变大小"],
  brushHint: ["The network sees one pixel of {f} x {f}: thinner strokes may vanish.",
    "网络每 {f} x {f} 像素只看一个点：更细的笔画可能会消失。"],
  search: ["Search classes (/)", "搜索类别（/）"], mapMenu: ["Change the map", "修改分割图"],
  draft: ["Draft", "草稿"], draftNote: ["A first look in the fewest steps", "用最少的步数先看一眼"],
  noClass: ["No class of this name", "没有这个类别"],
  unseen: ["The model never saw this class in training", "模型训练时没有见过这个类别"],
  replace: ["Replace a class ...", "替换类别…"], mirror: ["Mirror left and right", "左右镜像"],
  skyAbove: ["Sky above a line ...", "在水平线以上画天空…"], skyHint: ["Click where the sky ends.", "点击天空的下沿。"],
  replaceTitle: ["Replace a class", "替换类别"], from: ["All of", "将所有"], to: ["becomes", "改为"],
  apply: ["Apply", "应用"], cancel: ["Cancel", "取消"],
  undo: ["Undo (Ctrl-Z)", "撤销（Ctrl-Z）"], redo: ["Redo (Ctrl-Shift-Z)", "重做（Ctrl-Shift-Z）"],
  zoomIn: ["Zoom in (+)", "放大（+）"], zoomOut: ["Zoom out (-)", "缩小（-）"], zoomFit: ["Fit (0)", "适合窗口（0）"],
  network: ["What the network sees (N)", "网络看到的图（N）"],
  underlay: ["Photograph", "底图"], underlayOff: ["Remove the photograph", "移除底图"],
  canvasHelp: ["Arrow keys move a cursor, Enter paints with the tool, Shift with an arrow moves by 10 pixels.",
    "方向键移动光标，回车用当前工具绘制，按住 Shift 每次移动 10 像素。"],
  at: ["{name} at {x}, {y}", "{name}，位置 {x}, {y}"],
  polygonHint: ["Click the next corner; Enter or a double click closes, Esc leaves.", "点击下一个角点；回车或双击闭合，Esc 放弃。"],
  generate: ["Generate", "生成"], live: ["Live", "实时"], seed: ["Seed", "种子"], dice: ["New seed (D)", "换一个种子（D）"],
  lock: ["Keep this seed", "锁定种子"], variants: ["Variations", "变体"], variation: ["Variation {n}, seed {seed}", "变体 {n}，种子 {seed}"],
  empty: ["Your picture appears here.", "生成的图片显示在这里。"], progress: ["Progress", "进度"],
  sending: ["Sending the map ...", "正在发送分割图…"],
  queued: ["{n} before you, about {s}", "前面还有 {n} 个任务，约 {s}"], next: ["Starting ...", "即将开始…"],
  compiling: ["Compiling for these settings, once; about {m} min", "正在为这些设置编译（仅一次），约 {m} 分钟"],
  stepping: ["Round {round} of {rounds}, step {step} of {steps}, {s} left", "第 {round}/{rounds} 轮，第 {step}/{steps} 步，还需 {s}"],
  done: ["Done in {s}", "完成，用时 {s}"], cancelled: ["Cancelled", "已取消"],
  seconds: ["{n} s", "{n} 秒"], minutes: ["{n} min", "{n} 分钟"], about: ["about {s}", "约 {s}"],
  unmeasured: ["not measured yet", "尚未测量"], stepCount: ["{n} steps", "{n} 步"],
  style: ["Style", "风格"], styleHint: ["The picture takes its light and colours from this photograph.", "生成图的光线和色彩来自这张照片。"],
  upload: ["Your photograph", "上传照片"], noStyle: ["None", "无"],
  styleNote: ["Drop or paste (Ctrl-V) a photograph too.", "也可以拖入或粘贴（Ctrl-V）照片。"],
  noStyleNote: ["Without a style the first round starts from pure noise.", "没有参考照片时，第一轮从纯噪声开始。"],
  crop: ["Part of the photograph: drag to move, arrows too; the slider sets its size", "照片的裁剪区域：拖动或用方向键移动，滑块调整大小"],
  cropSize: ["Size of the part", "裁剪区域大小"],
  preset: ["Preset", "预设"], fast: ["Fast", "快速"], entry: ["Entry", "参赛版"], paper: ["Paper", "论文版"],
  noise: ["Noise", "噪声"], custom: ["Own settings", "自定义"],
  fastNote: ["Nearly the entry's picture in few steps", "用很少的步数得到接近参赛版的结果"],
  entryNote: ["What won the contest", "比赛获奖的设置"], paperNote: ["What the paper prints", "论文中的设置"],
  noiseNote: ["The paper's baseline, without a style", "论文的基线，不用参考照片"],
  customNote: ["Changed from a preset", "由预设修改而来"],
  variations: ["Variations", "变体数"], variationsNote: ["Pictures at once, with the next seeds.", "一次生成的图片数，使用后续的种子。"],
  strength: ["Start strength", "起始强度"],
  strengthNote: ["How much of the style picture is replaced in the first round: 0 keeps its layout, 1 leaves nothing.",
    "第一轮替换参考照片的程度：0 保留布局，1 全部替换。"],
  rounds: ["Rounds", "轮数"], roundsNote: ["Each round starts at the picture of the one before.", "每一轮从上一轮的图片开始。"],
  steps: ["Steps a round", "每轮步数"], stepsNote: ["More steps take longer and change details only.", "步数越多越慢，只影响细节。"],
  guidance: ["Guidance", "引导强度"], guidanceNote: ["How strictly the picture follows the mask; 1 is off.", "图片遵循分割图的严格程度；1 为关闭。"],
  sampler: ["Sampler", "采样器"], samplerNote: ["How a step is computed; unipc and dpmpp need few steps.", "每一步的计算方法；unipc 和 dpmpp 只需少量步数。"],
  transfer: ["Colour transfer", "颜色迁移"], transferNote: ["Before each later round the colours are set to the style's.", "后续每轮之前，将颜色调整为参考照片的颜色。"],
  off: ["off", "关闭"], exact: ["exact", "精确"], opencv8: ["8-bit", "8 位"],
  advanced: ["Advanced", "高级"], spacing: ["Spacing", "步长分布"], spacingNote: ["In what the steps are even.", "步长在哪个量上均匀分布。"],
  eta: ["Eta", "Eta"], etaNote: ["Noise of each ddim step: 0 is none, 1 is that of ddpm.", "ddim 每步加入的噪声：0 为无，1 与 ddpm 相同。"],
  jpeg: ["JPEG between rounds", "轮间 JPEG"], jpegNote: ["Quality of one JPEG between two rounds; 0 is none.", "两轮之间 JPEG 的质量；0 为不使用。"],
  reset: ["Reset {name}", "重置{name}"], yaml: ["As YAML", "YAML 格式"], copy: ["Copy", "复制"], copied: ["Copied", "已复制"],
  historyEmpty: ["Your pictures are kept here, in this browser only.", "生成的图片保存在这里，仅在此浏览器中。"],
  entryLabel: ["{preset}, seed {seed}, {time}: restore", "{preset}，种子 {seed}，{time}：恢复"],
  star: ["Keep for good", "永久保留"], remove: ["Delete", "删除"],
  savePng: ["Picture, PNG", "图片，PNG"], saveJpg: ["Picture, JPEG", "图片，JPEG"], saveMask: ["Mask, grey PNG", "分割图，灰度 PNG"],
  saveColored: ["Mask, coloured PNG", "分割图，彩色 PNG"], saveBundle: ["Bundle: all of it, to make it again (Ctrl-S)", "打包：全部内容，可重新生成（Ctrl-S）"],
  gone: ["The server no longer has this picture; generate it again.", "服务器上已没有这张图片，请重新生成。"],
  linkCopied: ["Link copied", "链接已复制"], linkLong: ["This map is too detailed for a link; save the bundle instead.", "分割图太复杂，无法放入链接；请保存打包文件。"],
  linkStyle: ["Link copied. Your photograph is not in it; the bundle has it.", "链接已复制，但不包含您的照片；打包文件包含照片。"],
  linkBad: ["The link is damaged", "链接已损坏"],
  start: ["Start from", "从这里开始"], samples: ["A sample", "示例"], blank: ["Sky over ground", "天空和地面"],
  openFile: ["A file: mask, bundle or picture ...", "文件：分割图、打包文件或图片…"],
  photoTitle: ["What is this photograph for?", "这张照片用来做什么？"], asStyle: ["Style", "作为风格"], asUnderlay: ["Trace it", "作为底图描摹"],
 
  asStyleNote: ["Its light and colours go into the picture.", "它的光线和色彩用于生成图。"],
  asUnderlayNote: ["It lies under the mask while you paint.", "绘制时显示在分割图下面。"],
  fitTitle: ["Other proportions", "比例不同"],
  fitNote: ["This map has {w} x {h} pixels, the model's pictures {W} x {H}.", "此图为 {w} x {h} 像素，模型的图片为 {W} x {H}。"],
  cropIt: ["Crop to the centre", "裁剪中间部分"], stretchIt: ["Stretch", "拉伸"],
  colorsTitle: ["Which class is each colour?", "每种颜色是哪个类别？"],
  colorsNote: ["These colours of the file belong to no class.", "文件中的这些颜色不属于任何类别。"],
  manyColors: ["The file has {n} colours more: is it a photograph?", "文件还有 {n} 种颜色：它是照片吗？"],
  choose: ["choose ...", "请选择…"], usePhoto: ["It is a photograph", "这是一张照片"],
  loaded: ["{name} loaded", "已载入 {name}"], restoredSettings: ["Settings restored; the picture's map is not on this server.", "已恢复设置；服务器上没有此图的分割图。"],
  notOursDo: ["open a PNG, JPEG, WebP or bundle .zip", "请打开 PNG、JPEG、WebP 或打包 .zip 文件"],
  badBundle: ["is no bundle of this page", "不是本页面的打包文件"],
  drafts: ["Another tab has a draft from {time}.", "另一个标签页有 {time} 的草稿。"], continueDraft: ["Continue it", "继续该草稿"], startNew: ["Start new", "重新开始"],
  starting: ["starting the model", "正在启动模型"], compilingModel: ["compiling, once", "正在编译（仅一次）"], ready: ["ready", "就绪"],
  silent: ["the model is not answering", "模型没有响应"], dead: ["the model ended", "模型已结束"],
  deadBanner: ["The model process ended several times. Painting and saving still work. Run python tools/doctor.py, then start the page again.",
    "模型进程多次退出。仍可绘制和保存。请运行 python tools/doctor.py，然后重新启动页面。"],
  silentBanner: ["The model is not answering. Painting still works.", "模型没有响应。仍可继续绘制。"],
  compilingBanner: ["The model is compiling, once. Painting already works. {message}", "模型正在编译（仅一次）。现在已可绘制。{message}"],
  offline: ["The server does not answer. Your drawing is kept in this browser.", "服务器没有响应。您的绘图保存在此浏览器中。"],
  offlineDo: ["start tools/paint.sh again", "请重新运行 tools/paint.sh"],
  details: ["Copy details", "复制详情"],
  keysTitle: ["Keys", "快捷键"],
  keyTools: ["tools", "工具"], keyGroups: ["groups of classes", "类别分组"], keySearch: ["search a class", "搜索类别"],
  keyBrush: ["brush size", "画笔大小"], keyUndo: ["undo, redo", "撤销、重做"], keyZoom: ["zoom, fit", "缩放、适合窗口"],
  keyHand: ["move the canvas", "移动画布"], keyRun: ["generate, cancel", "生成、取消"], keyDice: ["new seed", "换种子"],
  keyCompare: ["compare: line, blink", "对比：分界线、闪烁"], keyNetwork: ["what the network sees", "网络看到的图"], keyFiles: ["save the bundle, open", "保存打包、打开"],
  keyCursor: ["on the canvas: move a cursor, paint", "画布上：移动光标、绘制"],
  far: ["Far", "远景"], water: ["Water", "水"], ground: ["Ground", "地面"], plants: ["Plants", "植物"],
  built: ["Built", "建筑"], moving: ["Moving", "移动物体"], rest: ["Rest", "其他"],
  share: ["{p}%", "{p}%"],
};

let column = 0;

/** "en" or "zh". */
export const language = () => (column ? "zh" : "en");

/** Use a language: "zh..." or any other, which is English. */
export function speak(tag) {
  column = /^zh/i.test(tag) ? 1 : 0;
  document.documentElement.lang = column ? "zh-CN" : "en";
}

/** The words for a key, with {name} replaced from `values`. */
export function t(key, values = {}) {
  const words = WORDS[key]?.[column] ?? key;
  return words.replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
}

/** Fill every element that names its words: data-t text, data-l label and tooltip, data-a label, data-p placeholder. */
export function translate(root = document) {
  for (const node of root.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of root.querySelectorAll("[data-l]")) {
    node.setAttribute("aria-label", t(node.dataset.l));
    if (node.tagName === "BUTTON") node.title = t(node.dataset.l);
  }
  for (const node of root.querySelectorAll("[data-a]")) node.setAttribute("aria-label", t(node.dataset.a));
  for (const node of root.querySelectorAll("[data-p]")) node.placeholder = t(node.dataset.p);
  document.title = t("title");
}

/** A duration in words. */
export function duration(seconds) {
  if (seconds >= 90) return t("minutes", { n: Math.round(seconds / 60) });
  return t("seconds", { n: seconds < 10 ? (Math.round(seconds * 10) / 10).toFixed(1) : Math.round(seconds) });
}

/** All keys that lack a language; for the test. */
export const incomplete = () => Object.keys(WORDS).filter((key) => WORDS[key].length !== 2 || WORDS[key].includes(""));
