BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0004');
CREATE TABLE answers (
	search_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	repeat INTEGER NOT NULL, 
	split VARCHAR(20) NOT NULL, 
	accuracy DOUBLE, 
	rows BIGINT NOT NULL, 
	"right" BLOB NOT NULL, 
	CONSTRAINT pk_answers PRIMARY KEY (search_id, number, repeat, split), 
	CONSTRAINT fk_answers_search_id_number_repeat FOREIGN KEY(search_id, number, repeat) REFERENCES confirmations (search_id, number, repeat) ON DELETE CASCADE
);
INSERT INTO "answers" VALUES(1,1,1,'validation',1.0,40,X'FFFFFFFFFF');
INSERT INTO "answers" VALUES(1,4,1,'validation',0.975,40,X'FFFFFFFFEF');
CREATE TABLE confirmations (
	search_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	repeat INTEGER NOT NULL, 
	seed BIGINT NOT NULL, 
	status VARCHAR(20) NOT NULL, 
	reason TEXT NOT NULL, 
	seconds DOUBLE, 
	step BIGINT NOT NULL, 
	facts JSON NOT NULL, 
	finished DATETIME, 
	CONSTRAINT pk_confirmations PRIMARY KEY (search_id, number, repeat), 
	CONSTRAINT fk_confirmations_search_id_number FOREIGN KEY(search_id, number) REFERENCES trials (search_id, number) ON DELETE CASCADE
);
INSERT INTO "confirmations" VALUES(1,1,1,1000000000000001,'finished','',0.600902418999965,60,'{"device": "cpu", "device_memory": 25276514304, "threads": "1", "data": "tokens-3612a8858627bec01029cc5a", "versions": {"python": "3.11.7", "autopeft": "0.1.0", "torch": "2.13.0+cpu", "transformers": "5.23.0", "peft": "0.21.2"}}','2026-11-29 15:09:50.177611');
INSERT INTO "confirmations" VALUES(1,4,1,1000000000000001,'finished','',4.15655298000046968809e-01,60,'{"device": "cpu", "device_memory": 25276514304, "threads": "1", "data": "tokens-3612a8858627bec01029cc5a", "versions": {"python": "3.11.7", "autopeft": "0.1.0", "torch": "2.13.0+cpu", "transformers": "5.23.0", "peft": "0.21.2"}}','2026-11-29 15:09:50.600249');
CREATE TABLE costs (
	search_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	kind VARCHAR(20) NOT NULL, 
	trainable BIGINT NOT NULL, 
	memory BIGINT NOT NULL, 
	stored BIGINT NOT NULL, 
	flops BIGINT NOT NULL, 
	memory_by_part JSON NOT NULL, inference_flops BIGINT, overhead DOUBLE, set_up_flops BIGINT, 
	CONSTRAINT pk_costs PRIMARY KEY (search_id, number, kind), 
	CONSTRAINT fk_costs_search_id_number FOREIGN KEY(search_id, number) REFERENCES trials (search_id, number) ON DELETE CASCADE
);
INSERT INTO "costs" VALUES(1,1,'predicted',12512,1452416,50048,47204352,'{"weights": 234632, "activations": 1116864, "gradients": 0, "optimizer": 100920, "temporary": 0}',811008,3.20000000000000062172e-01,0);
INSERT INTO "costs" VALUES(1,1,'measured',12512,1452416,50048,47204352,'{"weights": 234632, "activations": 1116864, "gradients": 0, "optimizer": 100920, "temporary": 0}',NULL,NULL,0);
INSERT INTO "costs" VALUES(1,2,'predicted',3072,1523520,12288,40716288,'{"weights": 196872, "activations": 1301248, "gradients": 0, "optimizer": 25400, "temporary": 0}',614400,0.0,0);
INSERT INTO "costs" VALUES(1,2,'measured',3072,1523520,12288,40716288,'{"weights": 196872, "activations": 1301248, "gradients": 0, "optimizer": 25400, "temporary": 0}',NULL,NULL,0);
INSERT INTO "costs" VALUES(1,3,'predicted',912,1537828,3648,40126464,'{"weights": 184584, "activations": 1345088, "gradients": 0, "optimizer": 8156, "temporary": 0}',614400,0.0,0);
INSERT INTO "costs" VALUES(1,3,'measured',912,1537828,3648,40126464,'{"weights": 184584, "activations": 1345088, "gradients": 0, "optimizer": 8156, "temporary": 0}',NULL,NULL,0);
INSERT INTO "costs" VALUES(1,4,'predicted',436,749984,1744,20170752,'{"weights": 186328, "activations": 559360, "gradients": 0, "optimizer": 4296, "temporary": 0}',620544,1.00000000000000088817e-02,0);
INSERT INTO "costs" VALUES(1,4,'measured',436,749984,1744,20170752,'{"weights": 186328, "activations": 559360, "gradients": 0, "optimizer": 4296, "temporary": 0}',NULL,NULL,0);
INSERT INTO "costs" VALUES(2,1,'predicted',12512,1452416,50048,47204352,'{"weights": 234632, "activations": 1116864, "gradients": 0, "optimizer": 100920, "temporary": 0}',811008,3.20000000000000062172e-01,0);
INSERT INTO "costs" VALUES(2,1,'measured',12512,1452416,50048,47204352,'{"weights": 234632, "activations": 1116864, "gradients": 0, "optimizer": 100920, "temporary": 0}',NULL,NULL,0);
INSERT INTO "costs" VALUES(2,2,'predicted',3072,1523520,12288,40716288,'{"weights": 196872, "activations": 1301248, "gradients": 0, "optimizer": 25400, "temporary": 0}',614400,0.0,0);
INSERT INTO "costs" VALUES(2,2,'measured',3072,1523520,12288,40716288,'{"weights": 196872, "activations": 1301248, "gradients": 0, "optimizer": 25400, "temporary": 0}',NULL,NULL,0);
INSERT INTO "costs" VALUES(2,3,'predicted',912,1537828,3648,40126464,'{"weights": 184584, "activations": 1345088, "gradients": 0, "optimizer": 8156, "temporary": 0}',614400,0.0,0);
CREATE TABLE curves (
	search_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	step BIGINT NOT NULL, 
	steps BIGINT NOT NULL, 
	accuracy DOUBLE, 
	loss DOUBLE, 
	seconds DOUBLE, 
	CONSTRAINT pk_curves PRIMARY KEY (search_id, number, position), 
	CONSTRAINT fk_curves_search_id_number FOREIGN KEY(search_id, number) REFERENCES trials (search_id, number) ON DELETE CASCADE
);
INSERT INTO "curves" VALUES(1,1,0,7,60,0.975,2.36548117228916721099e-01,9.47070370000346883898e-02);
INSERT INTO "curves" VALUES(1,1,1,20,60,0.975,2.30840939741868228507e-01,1.84062563000054524309e-01);
INSERT INTO "curves" VALUES(1,1,2,60,60,1.0,1.18899500370025640316e-01,5.2042820600007644316e-01);
INSERT INTO "curves" VALUES(1,2,0,7,60,0.95,0.256177476474217,1.04509027000005971785e-01);
INSERT INTO "curves" VALUES(1,2,1,20,60,0.95,2.27643636556772083201e-01,2.16422587000010935298e-01);
INSERT INTO "curves" VALUES(1,2,2,60,60,0.95,2.25110673904418939761e-01,0.639109215000019);
INSERT INTO "curves" VALUES(1,3,0,7,60,0.95,2.54884736878531303894e-01,8.97652200000038646976e-02);
INSERT INTO "curves" VALUES(1,3,1,20,60,0.95,0.253708527638362,1.82536064999965219612e-01);
INSERT INTO "curves" VALUES(1,3,2,60,60,0.975,2.19567036628723150082e-01,6.2066835100000616876e-01);
INSERT INTO "curves" VALUES(1,4,0,7,60,0.95,0.224909884589059,9.39532590000453637912e-02);
INSERT INTO "curves" VALUES(1,4,1,20,60,0.95,2.45883776591374336728e-01,1.76798524000048473681e-01);
INSERT INTO "curves" VALUES(1,4,2,60,60,0.975,1.91579282283782958984e-01,5.39954858000044168875e-01);
INSERT INTO "curves" VALUES(2,1,0,7,60,0.975,2.36548117228916721099e-01,4.32043609999936961685e-02);
INSERT INTO "curves" VALUES(2,1,1,20,60,0.975,2.30840939741868228507e-01,1.19955422999964866903e-01);
INSERT INTO "curves" VALUES(2,1,2,60,60,1.0,1.18899500370025640316e-01,3.41623780999952941783e-01);
INSERT INTO "curves" VALUES(2,2,0,7,60,0.95,0.256177476474217,4.8987143000033483986e-02);
INSERT INTO "curves" VALUES(2,2,1,20,60,0.95,2.27643636556772083201e-01,1.41482228000029408576e-01);
INSERT INTO "curves" VALUES(2,2,2,60,60,0.95,2.25110673904418939761e-01,3.94916554000019459635e-01);
INSERT INTO "curves" VALUES(2,3,0,7,60,0.95,2.54884736878531303894e-01,4.43065470000192362931e-02);
CREATE TABLE outcomes (
	search_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	status VARCHAR(20) NOT NULL, 
	reason TEXT NOT NULL, 
	seconds DOUBLE, 
	artifact TEXT NOT NULL, 
	facts JSON NOT NULL, 
	CONSTRAINT pk_outcomes PRIMARY KEY (search_id, number), 
	CONSTRAINT fk_outcomes_search_id_number FOREIGN KEY(search_id, number) REFERENCES trials (search_id, number) ON DELETE CASCADE
);
INSERT INTO "outcomes" VALUES(1,1,'finished','',6.13968794000015805067e-01,'/home/somebody/project/autopeft-runs/finished/0001','{"device": "cpu", "device_memory": 25276514304, "threads": "1", "data": "tokens-3612a8858627bec01029cc5a", "versions": {"python": "3.11.7", "autopeft": "0.1.0", "torch": "2.13.0+cpu", "transformers": "5.23.0", "peft": "0.21.2"}, "seconds_per_step": 0.00829349425000127, "examples_per_second": 3215.37169530956, "latency": 0.000894377000008717, "latency_bare": 0.0007359570000176063, "set_up_seconds": 0.005057484999952067, "bytes_on_disk": 52358}');
INSERT INTO "outcomes" VALUES(1,2,'finished','',7.61833297000009679322e-01,'/home/somebody/project/autopeft-runs/finished/0002','{"device": "cpu", "device_memory": 25276514304, "threads": "1", "data": "tokens-3612a8858627bec01029cc5a", "versions": {"python": "3.11.7", "autopeft": "0.1.0", "torch": "2.13.0+cpu", "transformers": "5.23.0", "peft": "0.21.2"}, "seconds_per_step": 0.010230745416666309, "examples_per_second": 2606.5223579139756, "latency": 0.0007301930000380707, "latency_bare": 0.0007301930000380707, "set_up_seconds": 0.0009561690000055023, "bytes_on_disk": 16768}');
INSERT INTO "outcomes" VALUES(1,3,'finished','',0.706214378000027,'/home/somebody/project/autopeft-runs/finished/0003','{"device": "cpu", "device_memory": 25276514304, "threads": "1", "data": "tokens-3612a8858627bec01029cc5a", "versions": {"python": "3.11.7", "autopeft": "0.1.0", "torch": "2.13.0+cpu", "transformers": "5.23.0", "peft": "0.21.2"}, "seconds_per_step": 0.010107757583333902, "examples_per_second": 2638.2376552674546, "latency": 0.0007220209999445615, "latency_bare": 0.0007220209999445615, "set_up_seconds": 0.0006582159999766191, "bytes_on_disk": 6815}');
INSERT INTO "outcomes" VALUES(1,4,'finished','',6.17777260999957888998e-01,'/home/somebody/project/autopeft-runs/finished/0004','{"device": "cpu", "device_memory": 25276514304, "threads": "1", "data": "tokens-3612a8858627bec01029cc5a", "versions": {"python": "3.11.7", "autopeft": "0.1.0", "torch": "2.13.0+cpu", "transformers": "5.23.0", "peft": "0.21.2"}, "seconds_per_step": 0.008663048416666659, "examples_per_second": 3078.20819924811, "latency": 0.0007990260000383387, "latency_bare": 0.0007335440000133531, "set_up_seconds": 0.0009016280000082588, "bytes_on_disk": 3773}');
INSERT INTO "outcomes" VALUES(2,1,'finished','',3.80204591999984131689e-01,'/home/somebody/project/autopeft-runs/interrupted/0001','{"device": "cpu", "device_memory": 25276514304, "threads": "1", "data": "tokens-3612a8858627bec01029cc5a", "versions": {"python": "3.11.7", "autopeft": "0.1.0", "torch": "2.13.0+cpu", "transformers": "5.23.0", "peft": "0.21.2"}, "seconds_per_step": 0.005500749333333488, "examples_per_second": 4847.8243691403595, "latency": 0.0008940170000073522, "latency_bare": 0.0007410744999560848, "set_up_seconds": 0.0008098719999907189, "bytes_on_disk": 52358}');
INSERT INTO "outcomes" VALUES(2,2,'finished','',4.51400441000032515148e-01,'/home/somebody/project/autopeft-runs/interrupted/0002','{"device": "cpu", "device_memory": 25276514304, "threads": "1", "data": "tokens-3612a8858627bec01029cc5a", "versions": {"python": "3.11.7", "autopeft": "0.1.0", "torch": "2.13.0+cpu", "transformers": "5.23.0", "peft": "0.21.2"}, "seconds_per_step": 0.006366846550001052, "examples_per_second": 4188.363337681236, "latency": 0.000814478999984658, "latency_bare": 0.000814478999984658, "set_up_seconds": 0.0010081160000368072, "bytes_on_disk": 16768}');
CREATE TABLE searches (
	id INTEGER NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	created DATETIME NOT NULL, 
	ended DATETIME, 
	"plan" JSON NOT NULL, 
	baselines JSON, 
	facts JSON NOT NULL, 
	turned_away JSON NOT NULL, 
	CONSTRAINT pk_searches PRIMARY KEY (id), 
	CONSTRAINT uq_searches_name UNIQUE (name)
);
INSERT INTO "searches" VALUES(1,'finished','2026-11-29 15:09:42.083502','2026-11-29 15:09:49.469639','{"model": "/home/somebody/project/model", "data": "/home/somebody/project/reviews.csv", "text": [], "label": null, "task": "auto", "space": "quick", "methods": ["adapter", "bitfit", "lora"], "objectives": ["accuracy", "memory", "trainable"], "budget": {"memory": null, "trainable": null, "stored": null, "flops": null, "overhead": null, "latency": null, "accuracy_at_least": null}, "trials": 4, "time": null, "max_length": 16, "sampler": "known_costs", "seed": 0, "confirm": 1, "warm_start": false}','{"majority": 0.5, "probe": 0.975}','{"data": ["text-classification: review -> opinion", "rows: 80 train, 40 validation", "2 classes: negative 50%, positive 50%", "validation: split off the training data, stratified, seed 0"], "data_fingerprint": "9ecc0a88f82aa1ed23e349be8d9b46d8fec4749f16560e4a3bac37bcada10a06", "labels": ["negative", "positive"], "train_rows": 80, "validation_rows": 40, "backbone": "/home/somebody/project/model", "backbone_parameters": 45792, "batch_length": 8, "refused": {}, "methods": ["adapter", "bitfit", "lora"], "hybrids": [], "pairs": [], "versions": {"autopeft": "0.1.0", "torch": "2.13.0+cpu", "transformers": "5.23.0", "peft": "0.21.2", "optuna": "5.0.0", "ray": "2.60.0"}, "workers": 0, "seconds": 3.6801476589999993}','{}');
INSERT INTO "searches" VALUES(2,'interrupted','2026-11-29 15:09:50.682891',NULL,'{"model": "/home/somebody/project/model", "data": "/home/somebody/project/reviews.csv", "text": [], "label": null, "task": "auto", "space": "quick", "methods": ["adapter", "bitfit", "lora"], "objectives": ["accuracy", "memory", "trainable"], "budget": {"memory": null, "trainable": null, "stored": null, "flops": null, "overhead": null, "latency": null, "accuracy_at_least": null}, "trials": 4, "time": null, "max_length": 16, "sampler": "known_costs", "seed": 0, "confirm": 0, "warm_start": false}','{"majority": 0.5, "probe": 0.975}','{"data": ["text-classification: review -> opinion", "rows: 80 train, 40 validation", "2 classes: negative 50%, positive 50%", "validation: split off the training data, stratified, seed 0"], "data_fingerprint": "9ecc0a88f82aa1ed23e349be8d9b46d8fec4749f16560e4a3bac37bcada10a06", "labels": ["negative", "positive"], "train_rows": 80, "validation_rows": 40, "backbone": "/home/somebody/project/model", "backbone_parameters": 45792, "batch_length": 8, "refused": {}, "methods": ["adapter", "bitfit", "lora"], "hybrids": [], "pairs": [], "versions": {"autopeft": "0.1.0", "torch": "2.13.0+cpu", "transformers": "5.23.0", "peft": "0.21.2", "optuna": "5.0.0", "ray": "2.60.0"}, "workers": 0, "seconds": 0.9004311450000273}','{}');
CREATE TABLE trials (
	search_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	candidate JSON NOT NULL, 
	params JSON NOT NULL, 
	seed BIGINT NOT NULL, 
	status VARCHAR(20) NOT NULL, 
	started DATETIME, 
	finished DATETIME, 
	CONSTRAINT pk_trials PRIMARY KEY (search_id, number), 
	CONSTRAINT fk_trials_search_id FOREIGN KEY(search_id) REFERENCES searches (id) ON DELETE CASCADE
);
INSERT INTO "trials" VALUES(1,1,'{"name": "adapter", "parts": [{"method": "adapter", "settings": {"bottleneck": 64, "placement": "pfeiffer", "activation": "gelu", "scale": 1.0, "layers": "all"}, "learning_rate": 0.001, "weight_decay": 0.0}], "training": {"head_learning_rate": 0.001, "head_start": "probe", "pooling": "mean", "batch_size": 32, "micro_batch_size": null, "epochs": 1, "least_steps": 60, "warmup": 0.06, "gradient_checkpointing": false, "clip": 1.0}}','{"method": "adapter", "adapter.bottleneck": 64, "adapter.placement": "pfeiffer", "adapter.scale": 1.0, "adapter.layers": "all", "adapter.learning_rate": 0.001, "training.head_learning_rate": 0.001, "training.epochs": 1}',1,'finished','2026-11-29 15:09:45.800366','2026-11-29 15:09:46.473988');
INSERT INTO "trials" VALUES(1,2,'{"name": "lora", "parts": [{"method": "lora", "settings": {"rank": 8, "alpha": 16, "dropout": 0.0, "rslora": false, "dora": false, "start": true, "sites": ["q", "v"], "layers": "all"}, "learning_rate": 0.002, "weight_decay": 0.0}], "training": {"head_learning_rate": 0.001, "head_start": "probe", "pooling": "mean", "batch_size": 32, "micro_batch_size": null, "epochs": 1, "least_steps": 60, "warmup": 0.06, "gradient_checkpointing": false, "clip": 1.0}}','{"method": "lora", "lora.rank": 8, "lora.alpha": 16, "lora.dropout": 0.0, "lora.rslora": false, "lora.dora": false, "lora.start": true, "lora.sites": "q,v", "lora.layers": "all", "lora.learning_rate": 0.002, "training.head_learning_rate": 0.001, "training.epochs": 1}',2,'finished','2026-11-29 15:09:46.493628','2026-11-29 15:09:47.284970');
INSERT INTO "trials" VALUES(1,3,'{"name": "bitfit", "parts": [{"method": "bitfit", "settings": {"biases": "all", "layers": "all"}, "learning_rate": 0.002, "weight_decay": 0.0}], "training": {"head_learning_rate": 0.001, "head_start": "probe", "pooling": "mean", "batch_size": 32, "micro_batch_size": null, "epochs": 1, "least_steps": 60, "warmup": 0.06, "gradient_checkpointing": false, "clip": 1.0}}','{"method": "bitfit", "bitfit.biases": "all", "bitfit.layers": "all", "bitfit.learning_rate": 0.002, "training.head_learning_rate": 0.001, "training.epochs": 1}',3,'finished','2026-11-29 15:09:47.309527','2026-11-29 15:09:48.037225');
INSERT INTO "trials" VALUES(1,4,'{"name": "adapter", "parts": [{"method": "adapter", "settings": {"bottleneck": 4, "placement": "pfeiffer", "activation": "gelu", "scale": 4.0, "layers": "last 25%"}, "learning_rate": 0.001680262453697101, "weight_decay": 0.0}], "training": {"head_learning_rate": 0.0011696527444270358, "head_start": "probe", "pooling": "mean", "batch_size": 32, "micro_batch_size": null, "epochs": 1, "least_steps": 60, "warmup": 0.06, "gradient_checkpointing": false, "clip": 1.0}}','{"method": "adapter", "adapter.bottleneck": 4, "adapter.placement": "pfeiffer", "adapter.scale": 4.0, "adapter.layers": "last 25%", "adapter.learning_rate": 0.001680262453697101, "training.head_learning_rate": 0.0011696527444270358, "training.epochs": 1}',4,'finished','2026-11-29 15:09:48.796536','2026-11-29 15:09:49.448974');
INSERT INTO "trials" VALUES(2,1,'{"name": "adapter", "parts": [{"method": "adapter", "settings": {"bottleneck": 64, "placement": "pfeiffer", "activation": "gelu", "scale": 1.0, "layers": "all"}, "learning_rate": 0.001, "weight_decay": 0.0}], "training": {"head_learning_rate": 0.001, "head_start": "probe", "pooling": "mean", "batch_size": 32, "micro_batch_size": null, "epochs": 1, "least_steps": 60, "warmup": 0.06, "gradient_checkpointing": false, "clip": 1.0}}','{"method": "adapter", "adapter.bottleneck": 64, "adapter.placement": "pfeiffer", "adapter.scale": 1.0, "adapter.layers": "all", "adapter.learning_rate": 0.001, "training.head_learning_rate": 0.001, "training.epochs": 1}',1,'finished','2026-11-29 15:09:51.915633','2026-11-29 15:09:52.320402');
INSERT INTO "trials" VALUES(2,2,'{"name": "lora", "parts": [{"method": "lora", "settings": {"rank": 8, "alpha": 16, "dropout": 0.0, "rslora": false, "dora": false, "start": true, "sites": ["q", "v"], "layers": "all"}, "learning_rate": 0.002, "weight_decay": 0.0}], "training": {"head_learning_rate": 0.001, "head_start": "probe", "pooling": "mean", "batch_size": 32, "micro_batch_size": null, "epochs": 1, "least_steps": 60, "warmup": 0.06, "gradient_checkpointing": false, "clip": 1.0}}','{"method": "lora", "lora.rank": 8, "lora.alpha": 16, "lora.dropout": 0.0, "lora.rslora": false, "lora.dora": false, "lora.start": true, "lora.sites": "q,v", "lora.layers": "all", "lora.learning_rate": 0.002, "training.head_learning_rate": 0.001, "training.epochs": 1}',2,'finished','2026-11-29 15:09:52.328013','2026-11-29 15:09:52.787324');
INSERT INTO "trials" VALUES(2,3,'{"name": "bitfit", "parts": [{"method": "bitfit", "settings": {"biases": "all", "layers": "all"}, "learning_rate": 0.002, "weight_decay": 0.0}], "training": {"head_learning_rate": 0.001, "head_start": "probe", "pooling": "mean", "batch_size": 32, "micro_batch_size": null, "epochs": 1, "least_steps": 60, "warmup": 0.06, "gradient_checkpointing": false, "clip": 1.0}}','{"method": "bitfit", "bitfit.biases": "all", "bitfit.layers": "all", "bitfit.learning_rate": 0.002, "training.head_learning_rate": 0.001, "training.epochs": 1}',3,'training','2026-11-29 15:09:52.793431',NULL);
COMMIT;
